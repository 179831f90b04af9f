"""What one request may ask for, and how much may be under way at once, so that memory stays flat whatever comes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO

from PIL import Image

from vggflow.data import images

MEGA = 1_000_000
# Bodies that are held at once, in sizes of the largest one.
BODIES_AT_ONCE = 8


@dataclass(frozen=True)
class Limits:
    """Of the service.

    Attributes:
        body_bytes: Of a request.
        image_pixels: Of an image, width times height.
        images: In a request.
        waiting_images: In all requests that are not answered yet.
        seconds: From a request's first byte to its answer.
    """

    body_bytes: int = 32 * MEGA
    image_pixels: int = 40 * MEGA
    images: int = 64
    waiting_images: int = 256
    seconds: float = 30.0


class RequestRefused(Exception):
    """A request that gets no answer; the message says why in one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def refusal_of_size(content: bytes, limits: Limits) -> str:
    """Why an image is too large to be decoded, by its header; empty where it is not."""
    try:
        with Image.open(BytesIO(content), formats=tuple(images.EXTENSIONS_OF)) as image:
            width, height = image.size
    except Exception:  # noqa: BLE001 - no image, or a damaged one: the decoder says so in its own words
        return ""
    if width * height <= limits.image_pixels:
        return ""
    return f"{width} × {height} pixels, more than the limit of {limits.image_pixels:,}"


class UnderWay:
    """Images and bytes of the requests that are not answered yet."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.images = 0
        self.bytes = 0

    @contextmanager
    def request(self) -> Iterator["Held"]:
        """For the time of a request; what it held is free again after it, however it ended."""
        held = Held(self, self._limits)
        try:
            yield held
        finally:
            self.images -= held.images
            self.bytes -= held.bytes


class Held:
    """What one request holds."""

    def __init__(self, under_way: UnderWay, limits: Limits) -> None:
        self._under_way = under_way
        self._limits = limits
        self.images = 0
        self.bytes = 0

    def more_bytes(self, count: int) -> None:
        """A piece of its body has come.

        Raises:
            RequestRefused: it is too large (413), or all together are (429).
        """
        self.bytes += count
        self._under_way.bytes += count
        if self.bytes > self._limits.body_bytes:
            raise body_too_large(self._limits)
        if self._under_way.bytes > BODIES_AT_ONCE * self._limits.body_bytes:
            raise _busy()

    def more_images(self, count: int) -> None:
        """It asks for so many.

        Raises:
            RequestRefused: there are none (422), too many in it (413), or too many in all together (429).
        """
        if count == 0:
            raise RequestRefused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "no image in the request: send at least one"
            )
        if count > self._limits.images:
            raise RequestRefused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"{count} images, more than the limit of {self._limits.images} a request: send several requests",
            )
        if self._under_way.images + count > self._limits.waiting_images:
            raise _busy()
        self.images += count
        self._under_way.images += count


def body_too_large(limits: Limits) -> RequestRefused:
    """The refusal of a body over the limit, announced or not."""
    return RequestRefused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body has more than the limit of {limits.body_bytes:,} bytes: send fewer or smaller images",
    )


def _busy() -> RequestRefused:
    return RequestRefused(HTTPStatus.TOO_MANY_REQUESTS, "too much is waiting: try again in a second")
