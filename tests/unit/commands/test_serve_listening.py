"""What `vggflow serve` listens with."""

import asyncio
import socket

from vggflow.commands import serve


def test_what_an_answer_is_sent_in_goes_out_at_once():
    """Else the body, written after its head, waits 40 ms for a receipt of that: ten times what an answer takes."""

    class Taken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            held = transport.get_extra_info("socket")
            at_once.set_result(held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def ask() -> int:
        nonlocal at_once
        loop = asyncio.get_running_loop()
        at_once = loop.create_future()
        with serve._listening("127.0.0.1", 0) as listener:
            server = await loop.create_server(Taken, sock=listener)
            _, writer = await asyncio.open_connection(*listener.getsockname())
            found = await at_once
            writer.close()
            server.close()
            return found

    at_once: asyncio.Future[int]
    assert asyncio.run(ask()) == 1
