"""What each kind of file decodes to, and that damaged ones end in an `ImageError`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_pictures import bomb, encode, jpeg, picture
from PIL import Image

from vggflow.data.images import MAX_PIXELS, ImageError, decode, load, open_image, pixels


def colours(content: bytes) -> np.ndarray:
    return np.asarray(open_image(content), dtype=int)


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "AVIF", "JPEG"])
def test_every_format_gives_the_same_picture_in_rgb(format_name):
    image = picture(1, 64, 48)
    options = {"lossless": True} if format_name == "WEBP" else {}
    decoded = decode(encode(image, format_name, **options))

    assert decoded.image.mode == "RGB"
    assert decoded.format == format_name
    tolerance = {"GIF": 25, "AVIF": 12, "JPEG": 12}.get(format_name, 0)
    assert abs(np.asarray(decoded.image, dtype=int) - np.asarray(image, dtype=int)).mean() <= tolerance


def test_a_grey_jpeg_becomes_three_equal_channels():
    decoded = decode(encode(picture(1).convert("L"), "JPEG"))

    channels = np.asarray(decoded.image)
    assert decoded.mode == "L"
    assert (channels[..., 0] == channels[..., 1]).all()
    assert (channels[..., 1] == channels[..., 2]).all()


def test_a_cmyk_jpeg_shows_its_colours():
    red = Image.new("RGB", (16, 16), (200, 30, 20))
    decoded = decode(encode(red.convert("CMYK"), "JPEG", quality=95))

    assert decoded.mode == "CMYK"
    assert np.allclose(np.asarray(decoded.image)[8, 8], (200, 30, 20), atol=12)


def test_a_16_bit_png_keeps_its_range():
    values = np.array([[0, 256, 257, 1000, 30000, 65534, 65535]], dtype=np.uint16)
    decoded = decode(encode(Image.fromarray(values), "PNG"))

    assert decoded.mode.startswith("I")
    assert np.asarray(decoded.image)[0, :, 0].tolist() == [0, 0, 1, 3, 116, 254, 255]


def test_floating_point_pixels_are_refused_since_their_range_is_unknown():
    with pytest.raises(ImageError, match="floating-point"):
        decode(encode(Image.new("F", (16, 16), 0.5), "TIFF"))


def test_transparent_parts_of_a_palette_png_become_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    image.putpixel((1, 0), 1)

    assert colours(encode(image, "PNG", transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("format_name", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame_counts(format_name):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    content = encode(frames[0], format_name, save_all=True, append_images=frames[1:])
    decoded = decode(content)

    assert decoded.frames == 3
    assert np.allclose(np.asarray(decoded.image)[8, 8], (255, 0, 0), atol=10)


def test_of_a_tiff_with_pages_of_other_sizes_the_first_counts():
    pages = [picture(1, 40, 30), picture(2, 60, 20), picture(3, 9, 9)]
    decoded = decode(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]))

    assert decoded.frames == 3
    assert np.array_equal(np.asarray(decoded.image), np.asarray(pages[0]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = picture(1, 40, 24)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(stored, "PNG", exif=exif))

    assert decoded.orientation == orientation
    assert np.array_equal(np.asarray(decoded.image), np.asarray(upright))


def test_damaged_exif_data_do_not_cost_the_picture():
    content = jpeg(1, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")

    assert decode(content).orientation == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"a text named .jpg", "not an image of a known format"),
        (jpeg(1)[:-400], "truncated"),
        (encode(picture(1), "PNG")[:-400], "truncated|broken"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    ],
)
def test_what_is_no_whole_image_is_refused_with_its_reason(content, reason):
    with pytest.raises(ImageError, match=reason):
        decode(content)


@pytest.mark.parametrize("side", [9_500, 20_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_unpacked(side):
    content = bomb(side)
    with pytest.raises(ImageError, match=f"more than the limit of {MAX_PIXELS} pixels"):
        decode(content)

    assert len(content) < 1_000_000


def test_16_bit_pixels_take_no_wider_numbers_on_the_way():
    code = (
        "import io, resource\n"
        "import numpy as np\n"
        "from PIL import Image\n"
        "from vggflow.data.images import decode\n"
        "written = io.BytesIO()\n"
        "Image.fromarray(np.full((5000, 6000), 65535, np.uint16)).save(written, 'PNG', compress_level=1)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "decode(written.getvalue())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(said.stdout) * 1024 / 30e6 < 10, "bytes a pixel"


def test_a_file_that_is_missing_is_an_image_error_too(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "nothing.jpg")


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_pixels_have_the_shape_that_the_model_takes(tmp_path, resize):
    path = tmp_path / "a.png"
    picture(1, 80, 40).save(path)
    loaded = load(path, 32, resize)

    assert loaded.shape == (32, 32, 3)
    assert loaded.dtype == np.uint8


def test_padding_adds_black_bars_and_cropping_keeps_the_middle():
    image = Image.new("RGB", (40, 20), "white")
    image.paste("red", (0, 0, 10, 20))

    padded, cropped = pixels(image, 20, "pad"), pixels(image, 20, "crop")

    assert padded[0].max() == 0
    assert padded[10].min(axis=0).tolist() == [255, 0, 0]
    assert cropped.min() == 255


def test_a_path_and_its_bytes_give_the_same_picture(tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(3))

    assert np.array_equal(np.asarray(open_image(path)), np.asarray(open_image(path.read_bytes())))
