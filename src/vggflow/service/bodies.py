"""The body of a request: read piece by piece within the limits, and what a form holds."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from vggflow.service.limits import Held, Limits, RequestRefused, body_too_large

FORM = "multipart/form-data"


async def read_body(request: Request, held: Held, limits: Limits) -> bytes:
    """All of it.

    Raises:
        RequestRefused: it is too large, which is told by its announced length before any of it is read.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limits.body_bytes:
        raise body_too_large(limits)
    pieces = []
    try:
        async for piece in request.stream():
            held.more_bytes(len(piece))
            pieces.append(piece)
    except ClientDisconnect:
        # Nobody is there to be told; else it would be an error of the server's, with a traceback in its log.
        raise RequestRefused(HTTPStatus.BAD_REQUEST, "the body broke off") from None
    return b"".join(pieces)


async def read_files(request: Request, body: bytes, limits: Limits) -> list[tuple[str, bytes]] | None:
    """Names and bytes of the files of a form; None where the body is no form.

    Raises:
        RequestRefused: it is a damaged one, or holds too many files.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        return None

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(request.headers, pieces(), max_files=limits.images, max_fields=limits.images)  # type: ignore[arg-type]
    # It is in memory already: nothing is written to a disk that may be full or read-only.
    parser.spool_max_size = limits.body_bytes + 1
    try:
        form = await parser.parse()
    except (MultiPartException, HTTPException, KeyError, ValueError) as error:
        said = getattr(error, "message", None) or getattr(error, "detail", None) or "no boundary"
        raise RequestRefused(
            HTTPStatus.BAD_REQUEST, f"a damaged form ({str(said)[:100]}): send files"
        ) from None
    try:
        found = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
        return [(each.filename or "", await each.read()) for each in found]
    finally:
        await form.close()
