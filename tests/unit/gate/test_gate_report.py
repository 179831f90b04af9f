"""The report: one page that shows the pictures and needs nothing else."""

import base64
import html
import io
import re
import shutil
import subprocess

import pytest
from made_pictures import encode, grow, picture
from PIL import Image

from vggflow.data.changes import compare
from vggflow.gate.judge import judge
from vggflow.gate.report import ON_A_SHEET, write_report
from vggflow.gate.scan import scan
from vggflow.settings import ValidateSettings


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    data = grow(folder / "data")
    before = scan(data)
    cats = data / "train" / "cats"
    (cats / "<script>alert(1)</script>.jpg".replace("/", "⁄")).write_bytes(b"")
    (cats / "new\nline.jpg").write_bytes((cats / "0.jpg").read_bytes())
    for number in range(ON_A_SHEET + 8):
        dark = picture(300 + number).point(lambda value: value // 14)
        (cats / f"dark{number}.png").write_bytes(encode(dark, "PNG"))
    judgement = judge(data, ValidateSettings(exclude=("extension_mismatch",)), folder / "docs")
    write_report(judgement, data, folder / "report.html", compare(before, judgement.manifest))
    return folder / "report.html"


def test_the_page_loads_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")

    assert not re.findall(r"""(?:src|href)=["'](?!data:image/jpeg;base64,)""", text)
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_tells_verdict_counts_and_problems(page):
    text = html.unescape(page.read_text(encoding="utf-8"))

    assert "<h1>Data refused</h1>" in text
    assert '<section id="unreadable">' in text
    assert "the file is empty" in text
    assert "like train/cats/0.jpg" in text
    assert "8 more</summary>" in text
    assert "22 added" in text


def test_names_can_do_no_harm(page):
    text = page.read_text(encoding="utf-8")

    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "new\\nline.jpg" in text


def test_pictures_are_small_jpegs_in_the_page(page):
    pictures = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page.read_text(encoding="utf-8"))
    first = Image.open(io.BytesIO(base64.b64decode(pictures[0])))

    assert len(pictures) >= ON_A_SHEET
    assert max(first.size) <= 148
    assert page.stat().st_size < 1_000_000


def test_no_picture_behind_a_link_gets_into_the_page(data, tmp_path):
    (tmp_path / "private.png").write_bytes(encode(picture(500), "PNG"))
    (data / "train" / "cats" / "out.png").symlink_to(tmp_path / "private.png")
    write_report(judge(data, ValidateSettings(), tmp_path / "docs"), data, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")

    assert "train/cats/out.png" in text
    assert "data:image/jpeg" not in text


def test_the_page_says_whose_data_it_is_compared_with(data, tmp_path):
    judged = judge(data, ValidateSettings(), tmp_path / "docs")
    changes = compare(judged.manifest, judged.manifest)
    write_report(judged, data, tmp_path / "report.html", changes, "the newest candidate's data")

    assert "Changed since the newest candidate&#39;s data" in (tmp_path / "report.html").read_text()


def test_a_pair_of_copies_is_shown_once(tmp_path):
    data = grow(tmp_path / "data")
    (data / "test" / "cats" / "copy.jpg").write_bytes((data / "train" / "cats" / "0.jpg").read_bytes())
    write_report(judge(data, ValidateSettings(), tmp_path / "docs"), data, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")

    assert text.count("<figure") == 1
    assert text.count("data:image/jpeg") == 2


def test_good_data_have_a_page_without_sheets(data, tmp_path):
    write_report(judge(data, ValidateSettings(), tmp_path / "docs"), data, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")

    assert "<h1>Data passed</h1>" in text
    assert "<figure" not in text
    assert "Changed since" not in text


def test_data_without_one_readable_image_have_a_page(data, tmp_path):
    for path in data.rglob("*.jpg"):
        path.write_bytes(b"")
    write_report(judge(data, ValidateSettings(), tmp_path / "docs"), data, tmp_path / "report.html")

    assert "<h1>Data refused</h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_the_page_is_drawn_by_a_browser(page, tmp_path):
    shot = tmp_path / "page.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,1600"]
    subprocess.run(
        [*command, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True, timeout=120
    )
    colours = Image.open(shot).convert("RGB").getcolors(1 << 24)

    assert len(colours) > 1000, "pictures are drawn, not only text"
