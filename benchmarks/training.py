"""Training against what a user would otherwise write: `python -m benchmarks.training [--json]`.

Both train on the same photographs from `$VGGFLOW_PHOTOS` in alternating rounds, each in a process of its own that is
warm when the clock starts, plain Keras without any of vggflow's switches; figures are medians. An aim that is missed
ends with exit code 1; with other options than the defaults, aims are not judged.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggflow.models import start_keras

if TYPE_CHECKING:
    from benchmarks.training_plain import Timed

Row = dict[str, Any]

# Images of each class that make a process warm.
FEW = 32


@dataclass(frozen=True)
class Options:
    """What to measure, on how much."""

    photos: Path
    folder: Path
    images: int
    rounds: int
    size_px: int
    precision: str
    growth: tuple[int, ...]
    shortened: bool
    deterministic: bool = True
    epochs: tuple[int, int] = (3, 6)


def plans(options: Options) -> dict[str, Any]:
    """The two trainings that are compared."""
    from benchmarks.training_plain import Plan

    head, top = (2, 2) if options.shortened else options.epochs
    return {
        "head phase": Plan(3 if options.shortened else 8, 0, options.size_px),
        "two phases": Plan(head, top, options.size_px),
    }


def compare(options: Options) -> Iterator[Row]:
    """Ours against plain Keras, each from images to a trained model."""
    from benchmarks import training_ours as ours
    from benchmarks.training_plain import Timed

    data, few = take(options, options.images), take(options, 2 * FEW, "few")
    for (name, plan), aim in zip(plans(options).items(), (6.0, 1.6), strict=True):
        chosen = ours.settings(plan, options.precision)
        given = {
            "plan": asdict(plan),
            "data": str(data),
            "few": str(few),
            "cache": "auto",
            "policy": ours.policy(chosen, options.folder / "state"),
            "precision": options.precision,
            "backend": chosen.train.backend,
            "deterministic": options.deterministic,
        }
        found: dict[str, list[Timed]] = {"plain": [], "ours": []}
        for number in range(options.rounds):
            for who, timed in found.items():
                state = options.folder / f"state-{plan.head_epochs}-{plan.top_epochs}-{number}"
                timed.append(_in_process(options.folder, who, given | {"state": str(state)}))
                shutil.rmtree(state, ignore_errors=True)
        yield _ratio(f"{name}: times faster than plain Keras", found, lambda each: each.seconds, aim)
        for phase in ("head", "top")[: 2 if plan.top_epochs else 1]:
            if found["ours"][0].steady(phase):
                label = f"{name}: times faster in an epoch of the {phase} phase but the first"
                yield _ratio(label, found, partial(_steady, phase), None)


def _steady(phase: str, timed: "Timed") -> float:
    return timed.steady(phase) or math.nan


def _in_process(folder: Path, who: str, given: Row) -> "Timed":
    from benchmarks.training_plain import Timed

    asked = folder / "round.json"
    asked.write_text(json.dumps(given))
    command = [sys.executable, "-m", "benchmarks.training_round", who, str(asked)]
    # What vggflow set for itself in this process is no switch of plain Keras.
    ours = ("XLA_FLAGS", "KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS")
    known = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who}: {done.stderr[-2000:]}")
    return Timed(**json.loads(done.stdout.splitlines()[-1]))


def _ratio(
    name: str, found: "dict[str, list[Timed]]", figure: "Callable[[Timed], float]", aim: float | None
) -> Row:
    seconds = {who: [figure(timed) for timed in rounds] for who, rounds in found.items()}
    ratios = [one / other for one, other in zip(seconds["plain"], seconds["ours"], strict=True)]
    return row(name, statistics.median(ratios), aim, least=True) | {
        "plain seconds": _rounded(seconds["plain"]),
        "our seconds": _rounded(seconds["ours"]),
        "ratios": _rounded(ratios),
    }


def equal_losses(options: Options) -> Iterator[Row]:
    """The losses on train and valid with the cache and without it."""
    from benchmarks import training_ours as ours

    data = take(options, min(options.images, 200))
    plan = plans(options)["two phases"]
    losses = []
    for cache in ("auto", "off"):
        chosen = ours.settings(plan, options.precision, features={"cache": cache})
        losses.append(ours.train(ours.job(data, options.folder / "state", chosen)).losses)
    apart = max(abs(one - other) for one, other in zip(*losses, strict=True))
    yield row("cached against uncached: largest difference of a loss", apart, 1e-3, least=False)


def passes(options: Options) -> Iterator[Row]:
    """The feature pass: its speed, and what it costs to retrain."""
    import keras

    from benchmarks import training_ours as ours

    plan = plans(options)["two phases"]
    data = take(options, options.images)
    chosen = ours.settings(plan, options.precision)
    state = options.folder / "state"
    more = take(options, options.images, "more")
    added = extend(more, options.images)
    predicting, firsts, seconds = [], [], []
    for _ in range(options.rounds):
        shutil.rmtree(state, ignore_errors=True)
        work = ours.job(data, state, chosen)
        predicting.append(ours.predict_rate(work, min(options.images, 512)))
        firsts.append(ours.feature_pass(work))
        seconds.append(ours.feature_pass(ours.job(more, state, chosen)))
        if seconds[-1].images != added:
            raise SystemExit(f"{added} images were new, {seconds[-1].images} went through the frozen layers")
    speeds = [first.speed for first in firsts]
    shares = [own / other for own, other in zip(speeds, predicting, strict=True)]
    yield row(
        "first feature pass: share of the speed of model.predict", statistics.median(shares), 0.85, least=True
    ) | {"pass images/s": _rounded(speeds), "predict images/s": _rounded(predicting)}
    if on_device := ours.computed_on_device(work):
        yield row(
            "top phase's features from kept pixels to the device", on_device.speed, None, least=True
        ) | {"seconds": round(on_device.seconds, 2)}
    kept = ours.pass_from_kept_pixels(ours.job(data, options.folder / "pixels", chosen)).speed
    share = kept / statistics.median(predicting)
    yield row("pass from kept pixels: share of the speed of model.predict", share, None, least=True) | {
        "pass images/s": _rounded([kept])
    }
    costs = [second.seconds / first.seconds for first, second in zip(firsts, seconds, strict=True)]
    yield row(
        "5 % more images: share of the first feature pass", statistics.median(costs), 0.10, least=False
    ) | {
        "images": added,
        "first seconds": _rounded([first.seconds for first in firsts]),
        "second seconds": _rounded([second.seconds for second in seconds]),
    }
    peak = ours.matrix_peak(keras.DTypePolicy(ours.policy(chosen, state)).compute_dtype)
    yield row("large matrix products: T multiply-adds a second", peak / 1e12, None, least=True)
    for name, measured in (("model.predict", predicting), ("first feature pass", speeds)):
        reached = statistics.median(measured) * ours.multiply_adds(work) / peak
        yield row(f"{name}: share of that", reached, None, least=True)
    phases = [phase.model_dump() | {"learning_rate": 0.02} for phase in chosen.train.phases]
    again = ours.feature_pass(ours.job(data, state, ours.settings(plan, options.precision, phases=phases)))
    yield row("another learning rate: images through the frozen layers", again.images, 0, least=False)


def growth(options: Options) -> Iterator[Row]:
    """Time per image as the number of images grows."""
    from benchmarks import training_ours as ours

    plan = plans(options)["two phases"]
    chosen = ours.settings(plan, options.precision)
    each = {}
    for images in options.growth:
        data = take(options, images)
        seconds = ours.train(ours.job(data, options.folder / "state", chosen)).seconds
        each[images] = 1000 * seconds / images
        yield row(f"two phases, {images} images: milliseconds an image", each[images], None, least=False) | {
            "seconds": round(seconds, 2)
        }
    if not each:
        return
    few, many = options.growth[len(options.growth) // 3], options.growth[-1]
    yield row(f"an image among {many} to one among {few}", each[many] / each[few], None, least=False)


def row(measure: str, value: float, aim: float | None, *, least: bool) -> Row:
    """A measured figure, and the one that is asked for."""
    met = None if aim is None else value >= aim if least else value <= aim
    shown = "" if aim is None else f"{'≥' if least else '≤'} {aim:g}"
    return {"measure": measure, "value": round(value, 6), "aim": shown, "met": met}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in values]


def take(options: Options, images: int, name: str = "data") -> Path:
    """A data folder with this many training images and a fifth of it for valid, half of each class."""
    data = options.folder / f"{name}-{images}"
    shutil.rmtree(data, ignore_errors=True)
    for split, count in (("train", images), ("valid", max(4, images // 5))):
        for place in sorted((options.photos / split).iterdir()):
            copy(sorted(place.iterdir()), data / split / place.name, count // 2)
    return data


def copy(originals: list[Path], target: Path, count: int, start: int = 0) -> None:
    """Copies as often as needed; repeated ones are made different after the end of the image."""
    target.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        original = originals[number % len(originals)]
        repeated = b"" if number < len(originals) else str(number).encode()
        (target / f"{number}{original.suffix}").write_bytes(original.read_bytes() + repeated)


def extend(data: Path, images: int) -> int:
    """Adds 5 % of images that were not there; returns how many."""
    places = sorted((data / "train").iterdir())
    each = max(1, images // 20 // len(places))
    for place in places:
        for number, original in enumerate(sorted(place.iterdir())[:each]):
            (place / f"new-{number}{original.suffix}").write_bytes(original.read_bytes() + b"new")
    return each * len(places)


DEFAULTS = {
    "images": 1000,
    "rounds": 3,
    "size": 64,
    "precision": "float32",
    "backend": "tensorflow",
    "epochs": (3, 6),
}

MEASURES: dict[str, Callable[[Options], Iterator[Row]]] = {
    "compare": compare,
    "losses": equal_losses,
    "passes": passes,
    "growth": growth,
}


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.training", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--images", type=int, help="training images")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--size", type=int, help="pixels")
    parser.add_argument("--precision", choices=["float32", "mixed"])
    parser.add_argument("--backend", choices=["tensorflow", "jax"])
    parser.add_argument("--epochs", type=int, nargs=2, help="of the two phases")
    parser.add_argument(
        "--any-order",
        dest="deterministic",
        action="store_false",
        help="ours without repeatability (train.deterministic: false)",
    )
    parser.set_defaults(**DEFAULTS)
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[250, 500, 1000, 2000], help="numbers of images"
    )
    parser.add_argument("--short", action="store_true", help="fewer epochs, to try the benchmark itself")
    parser.add_argument("--only", choices=list(MEASURES), nargs="*", default=list(MEASURES))
    options = parser.parse_args(arguments)
    if options.photos is None:
        parser.error("no photographs: set VGGFLOW_PHOTOS or give --photos FOLDER with {train,valid}/<class>/")
    return options, options.only


def main(arguments: list[str] | None = None) -> int:
    """The program: a table, or JSON lines with `--json`."""
    given, chosen = parse(arguments)
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start_keras.start(given.backend, deterministic=given.deterministic)
    judged = (
        not given.short
        and given.deterministic
        and all(getattr(given, name) == value for name, value in DEFAULTS.items())
    )
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            Path(given.photos),
            Path(folder),
            given.images,
            given.rounds,
            given.size,
            given.precision,
            tuple(given.growth),
            given.short,
            given.deterministic,
            tuple(given.epochs),
        )
        found = (measured for name in chosen for measured in MEASURES[name](options))
        return show_all(found, judged=judged, as_json=given.json)


def show_all(found: Iterable[Row], *, judged: bool, as_json: bool) -> int:
    """Prints figures as they come; 1 if one missed its aim. Aims hold for the benchmark's own settings only."""
    missed = 0
    for measured in found:
        told = measured if judged else measured | {"aim": "", "met": None}
        missed += told["met"] is False
        show(told, as_json=as_json)
    return int(missed > 0)


def show(measured: Row, *, as_json: bool) -> None:
    """Prints a figure."""
    if as_json:
        print(json.dumps(measured, ensure_ascii=False), flush=True)
        return
    value = f"{measured['value']:12.4g}"
    missed = "MISSED " if measured["met"] is False else ""
    details = [
        f"{name} {told}" for name, told in measured.items() if name not in ("measure", "value", "aim", "met")
    ]
    told = f" ({', '.join(details)})" if details else ""
    print(f"{value}  {measured['aim']:8} {missed:7}{measured['measure']}{told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
