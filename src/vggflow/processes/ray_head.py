"""A head of Ray asked over its own protocol, without Ray: who is let in, and where heads on this machine listen.

Ray reads how it identifies itself once, when it is imported; this asks with a token and without one.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Literal, cast

import psutil

TLS = "RAY_USE_TLS"
# Authority, key and certificate; with TLS, Ray wants them of both sides.
TLS_FILES = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT")
CLIENT = "ray://"
# Of Ray's services, what answers and does nothing: at the head's port, and at that for clients, where it is a PING.
ALIVE = ("/ray.rpc.NodeInfoGcsService/CheckAlive", b"")
PING = ("/ray.rpc.RayletDriver/ClusterInfo", b"\x08\x06")
SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class Answer:
    """What answers where Ray should be: it lets in, wants another token, or is not Ray.

    Attributes:
        kind: Which of these.
        said: The version of Ray, where it lets in and tells it; else the reason.
    """

    kind: Literal["let in", "refused", "silent"]
    said: str = ""


@dataclass(frozen=True)
class Socket:
    """Where a head listens.

    Attributes:
        address: At which it can be asked from this machine.
        open_to: `all` addresses, or the one it is bound to.
        local: Whether only this machine reaches it.
    """

    address: str
    open_to: str
    local: bool


def ask(address: str, token: str = "") -> Answer:
    """What answers at `HOST:PORT` or `ray://HOST:PORT` to somebody with this token, or with none."""
    # Here, as it takes a tenth of a second; TensorFlow brings it.
    import grpc

    method, request = PING if address.startswith(CLIENT) else ALIVE
    sent = [("authorization", f"Bearer {token}")] if token else None
    try:
        with _channel(grpc, address.removeprefix(CLIENT)) as channel:
            answer = channel.unary_unary(method)(request, timeout=SECONDS_TO_ANSWER, metadata=sent)
    except grpc.RpcError as error:
        refused = error.code() is grpc.StatusCode.UNAUTHENTICATED
        return Answer("refused" if refused else "silent", _reason(error))
    except OSError as error:  # of the files for TLS
        return Answer("silent", str(error))
    told = re.search(rb"\d+\.\d+\.\d+[\w.]*", answer)
    return Answer("let in", told[0].decode() if told else "")


def uses_tls() -> bool:
    """Whether this machine speaks to Ray encrypted, and Ray with whom shows a certificate only."""
    return os.environ.get(TLS, "").lower() in ("1", "true")


def sockets_here() -> Iterator[Socket]:
    """Where heads on this machine listen, as far as this account may see it."""
    # macOS shows sockets to root only.
    with suppress(psutil.Error):
        heads = {each.pid for each in psutil.process_iter() if _name(each) == "gcs_server"}
        for found in psutil.net_connections("tcp") if heads else ():
            if found.status == psutil.CONN_LISTEN and found.pid in heads:
                yield _socket(*cast("tuple[str, int]", found.laddr))


def _channel(grpc: Any, place: str) -> Any:
    # As Ray does: no proxy that the environment names stands between.
    options = [("grpc.enable_http_proxy", 0)]
    if not uses_tls():
        return grpc.insecure_channel(place, options)
    files = [Path(os.environ.get(name, "")).read_bytes() for name in TLS_FILES]
    return grpc.secure_channel(place, grpc.ssl_channel_credentials(*files), options)


def _reason(error: Any) -> str:
    """gRPC's reason without its preface: `failed to connect to all addresses; last error: UNKNOWN: …`."""
    said = " ".join(str(error.details()).split())
    return said.rpartition("last error: ")[2] or str(error.code().name)


def _socket(host: str, port: int) -> Socket:
    address = ip_address(host)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_unspecified:
        return Socket(f"127.0.0.1:{port}", f"all addresses, port {port}", local=False)
    written = f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"
    return Socket(written, written, local=address.is_loopback)


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return ""
