"""Faults planted in a copy of the photographs: which the data gate finds, and what it finds beside them."""

import argparse
import io
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageEnhance

from benchmarks.gate_rows import Row
from vggflow.data.images import open_image
from vggflow.gate import judge
from vggflow.settings import ValidateSettings

EACH = 5
# These two photographs of the set are one, taken over by its makers twice.
KNOWN = {"train/dogs/dog.74.jpg", "train/dogs/dog.180.jpg"}


@dataclass
class Result:
    """Of one kind: how many were planted, and the paths that were not found."""

    planted: int
    missed: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        return self.planted - len(self.missed)


def rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Found of each kind, and false alarms."""
    results, beside, on_clean, known = measure(Path(options.photos), folder, options.seed)
    near = {kind for kind in results if kind not in ("same bytes", "other label", "truncated")}
    for kind, result in results.items():
        least = None if kind in near else float(result.planted)
        yield Row("planting", kind, result.found, f"of {result.planted}", least, note=" ".join(result.missed))
    found = sum(results[kind].found for kind in near)
    yield Row("planting", "all near duplicates", found, f"of {EACH * len(near)}", least=EACH * len(near) - 1)
    yield Row("planting", "known pair of the photographs", known, "of 1", least=1)
    yield Row("planting", "false alarms beside the faults", len(beside), most=2, note=" ".join(beside))
    yield Row("planting", "false alarms on the clean copy", len(on_clean), most=2, note=" ".join(on_clean))


def measure(
    photos: Path, folder: Path, seed: int = 0
) -> tuple[dict[str, Result], list[str], list[str], bool]:
    """Plants and looks; results per kind, false alarms on the planted copy and on the clean one, and whether
    the two photographs that are one are found there.
    """
    clean, planted = folder / "clean", folder / "planted"
    for copy in (clean, planted):
        shutil.copytree(photos, copy, copy_function=shutil.copyfile)
    faults = list(plant(planted, random.Random(seed)))
    found = _found(planted, folder)
    results: dict[str, Result] = {}
    explained = set(KNOWN)
    for kind, expectation, path, original in faults:
        result = results.setdefault(kind, Result(0))
        result.planted += 1
        explained |= {path, original}
        if path not in found.get(expectation, ()):
            result.missed.append(path)
    on_clean = _found(clean, folder)
    known = bool(KNOWN & on_clean.get("near_duplicates", set()))
    return results, _unexplained(found, explained), _unexplained(on_clean, KNOWN), known


def plant(data: Path, chance: random.Random) -> Iterator[tuple[str, str, str, str]]:
    """Makes faults, each from a photograph of its own: kind, expectation not met, path, original."""
    kinds: list[tuple[str, str, Callable[[bytes], bytes]]] = [
        ("same bytes", "leakage", lambda content: content),
        ("quality 40", "near_leakage", lambda content: _encoded(_opened(content), 40)),
        ("70 % size", "near_leakage", lambda content: _encoded(_resized(_opened(content)))),
        ("crop of 5 %", "near_leakage", lambda content: _encoded(_cropped(_opened(content), chance))),
        ("brightness +15 %", "near_leakage", lambda content: _encoded(_brightened(_opened(content)))),
        ("other label", "label_conflicts", lambda content: _encoded(_opened(content))),
        ("truncated", "unreadable", lambda content: content[: len(content) * 2 // 3]),
    ]
    originals = sorted(path.relative_to(data).as_posix() for path in data.glob("train/*/*.jpg"))
    chosen = iter(chance.sample(sorted(set(originals) - KNOWN), EACH * len(kinds)))
    classes = sorted({path.split("/")[1] for path in originals})
    for kind, expectation, change in kinds:
        for number in range(EACH):
            original = next(chosen)
            _, name, file = original.split("/")
            split = (
                "train" if expectation in ("unreadable", "label_conflicts") else ("valid", "test")[number % 2]
            )
            if expectation == "label_conflicts":
                name = next(other for other in classes if other != name)
            path = (
                original
                if expectation == "unreadable"
                else f"{split}/{name}/planted.{kind[:4].strip()}.{file}"
            )
            (data / path).write_bytes(change((data / original).read_bytes()))
            yield kind, expectation, path, original


def _found(data: Path, folder: Path) -> dict[str, set[str]]:
    judgement = judge.judge(data, ValidateSettings(), folder / "docs")
    return {problem.expectation: set(problem.paths) for problem in judgement.verdict.problems}


def _unexplained(found: dict[str, set[str]], explained: set[str]) -> list[str]:
    return sorted({f"{name}: {path}" for name, paths in found.items() for path in paths - explained})


def _opened(content: bytes) -> Image.Image:
    return open_image(content)


def _encoded(image: Image.Image, quality: int = 90) -> bytes:
    written = io.BytesIO()
    image.save(written, "JPEG", quality=quality)
    return written.getvalue()


def _resized(image: Image.Image) -> Image.Image:
    size = (round(image.width * 0.7), round(image.height * 0.7))
    return image.resize(size, Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, chance: random.Random) -> Image.Image:
    """Takes 5 % of width and height away in total, shared out between the sides by chance."""
    width, height = round(image.width * 0.95), round(image.height * 0.95)
    left, upper = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
    return image.crop((left, upper, left + width, upper + height))


def _brightened(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.15)
