"""Figures of a search: how it went, and which settings made the difference."""

import itertools
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vggflow.report.plots import BLUE, GREY, ORANGE
from vggflow.search.study import Study


def history(study: Study) -> Figure:
    """The metric of each trial, and the best one so far."""
    complete = [trial for trial in study.trials if trial.state == "complete" and trial.value is not None]
    ended = [trial for trial in study.trials if trial.state != "complete" and trial.value is not None]
    numbers, values = [trial.number for trial in complete], [trial.value or 0.0 for trial in complete]
    least = min if study.settings.metric.endswith("loss") else max
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        [trial.number for trial in ended],
        [trial.value or 0.0 for trial in ended],
        s=14,
        color=GREY,
        marker="x",
        label="ended early",
    )
    axes.scatter(numbers, values, s=18, color=BLUE, label="trial")
    axes.step(
        numbers, list(itertools.accumulate(values, least)), where="post", color=ORANGE, label="best so far"
    )
    if complete and study.settings.metric.endswith("loss"):
        # Trials that went wrong would press all others into a line.
        axes.set_ylim(0.95 * min(values), 1.05 * sorted(values)[int(0.9 * (len(values) - 1))] + 1e-9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=study.settings.metric, title=study.name)
    axes.legend(loc="upper right")
    return figure


def importance(shares: Mapping[str, float], title: str) -> Figure:
    """How much of the differences each setting explains."""
    # A bar chart begins at the bottom.
    rising = list(shares.items())[::-1]
    names = [name.removeprefix("train.").removeprefix("phases.") for name, _ in rising]
    figure = Figure(figsize=(7, 1.2 + 0.36 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [share for _, share in rising], color=BLUE)
    axes.set(xlabel="share of the differences", xlim=(0, 1), title=title)
    return figure
