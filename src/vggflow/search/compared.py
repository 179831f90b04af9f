"""What the best settings of a search are worth beside those of before, with how little is sure of it."""

from dataclasses import dataclass

from scipy.stats import binomtest

from vggflow.search.run_search import Found


@dataclass(frozen=True)
class Line:
    """Accuracy on valid, 0 to 1, its 95 % interval (Wilson 1927), and the loss where there is one."""

    what: str
    accuracy: float
    low: float
    high: float
    loss: float | None


def lines(found: Found) -> list[Line]:
    """A linear classifier without any training, the settings as they were, and the best ones."""
    sides: list[tuple[str, float | None, float | None]] = [("linear probe", found.linear_probe, None)]
    if found.default:
        sides.append(("settings as they are", found.default.accuracy, found.default.loss))
    if found.best and found.best != found.default:
        sides.append((f"best of {found.trials} trials", found.best.accuracy, found.best.loss))
    return [
        Line(what, accuracy, *_interval(accuracy, found.images), loss)
        for what, accuracy, loss in sides
        if accuracy is not None
    ]


def _interval(accuracy: float, images: int) -> tuple[float, float]:
    found = binomtest(round(accuracy * images), images).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
