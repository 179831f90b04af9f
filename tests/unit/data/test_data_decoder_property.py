"""Whatever bytes a file holds: the gate tells, nothing escapes, and training reads what the gate accepted."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_pictures import encode, picture
from PIL import Image

from vggflow.data.images import ImageError, decode, load, open_image, pixels
from vggflow.data.places import Place
from vggflow.gate.fingerprint import fingerprint
from vggflow.gate.inspect_file import inspect

FORMATS = {
    "JPEG": ["RGB", "L", "CMYK"],
    "PNG": ["RGB", "L", "RGBA", "P", "1", "I;16", "LA"],
    "GIF": ["RGB", "P", "L"],
    "BMP": ["RGB", "L", "P", "1"],
    "WEBP": ["RGB", "RGBA"],
    "TIFF": ["RGB", "L", "CMYK", "RGBA", "I;16", "F", "1", "P"],
    "AVIF": ["RGB", "RGBA"],
}
EXTENSIONS = [".jpg", ".png", ".gif", ".bmp", ".webp", ".tif", ".avif"]

damages = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(
        st.just("flip"), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=8)
    ),
    st.tuples(
        st.just("head"), st.lists(st.tuples(st.integers(0, 63), st.integers(1, 255)), min_size=1, max_size=4)
    ),
    st.tuples(st.just("none"), st.none()),
)


@st.composite
def files(draw):
    """The bytes of an image of any format, mode and size, damaged or not."""
    name = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[name]))
    seed, width, height = draw(st.tuples(st.integers(0, 30), st.integers(1, 40), st.integers(1, 40)))
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(0, 9))
    options = {"exif": exif} if name in ("JPEG", "PNG", "TIFF", "WEBP") else {}
    frames = (
        [picture(seed + 1, width, height)] if draw(st.booleans()) and name in ("GIF", "WEBP", "TIFF") else []
    )
    if frames:
        options |= {"save_all": True, "append_images": [_in_mode(frame, mode) for frame in frames]}
    content = encode(_in_mode(picture(seed, width, height), mode), name, **options)
    return _damaged(content, draw(damages)), draw(st.sampled_from(EXTENSIONS))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image.convert("L").convert(mode) if mode in ("I;16", "F", "LA", "1") else image.convert(mode)


def _damaged(content: bytes, damage: tuple) -> bytes:
    kind, how = damage
    if kind == "cut":
        return content[: int(len(content) * how)]
    changed = bytearray(content)
    for place, value in how or ():
        changed[int(place * (len(content) - 1)) if kind == "flip" else place % len(content)] ^= value
    return bytes(changed)


def check(folder: Path, content: bytes, extension: str, train) -> None:
    path = folder / f"image{extension}"
    path.write_bytes(content)
    facts = inspect(Place(str(path)))
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    if "error" in facts:
        assert facts["error"]
        assert "\n" not in facts["error"]
        with pytest.raises(ImageError):
            load(path, 16)
    else:
        seen = decode(content).image
        assert (facts["width"], facts["height"]) == seen.size
        assert np.array_equal(np.asarray(open_image(path)), np.asarray(seen))
        # What the gate measured are these pixels.
        measured = fingerprint(seen)
        assert (facts["perceptual_hash"], facts["brightness"]) == (measured.hashes[0], measured.brightness)
        assert np.array_equal(train(path, facts["sha256"]), pixels(seen, 16))


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(file=files())
def test_gate_and_decoder_agree_on_damaged_images(tmp_path_factory, file):
    check(tmp_path_factory.getbasetemp(), *file, lambda path, _: load(path, 16))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=2500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(file=files())
def test_gate_and_training_agree_on_thousands_of_damaged_images(tmp_path_factory, file):
    from vggflow.features.decode import Examples, Shape, read_ahead

    def batch(path: Path, sha256: str) -> np.ndarray:
        """The image as training's batches are filled with it."""
        images = Examples(path.parent, (path.name,), (sha256,), np.zeros(1, np.int64))
        return next(read_ahead(images, [0], Shape(16, "stretch")))

    check(tmp_path_factory.getbasetemp(), *file, batch)
