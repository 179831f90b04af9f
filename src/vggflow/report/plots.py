"""Figures that people read, as matplotlib `Figure` objects: drawn without pyplot and its global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics as sk

from vggflow import files
from vggflow.evaluation import answers, metrics

BLUE, ORANGE, GREY = "#2f6db3", "#d9772b", "#8a8f98"
# Beyond this many classes, names and numbers no longer fit into their cells.
READABLE_CLASSES = 20


def draw_all(
    predictions: pd.DataFrame,
    class_names: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    folder: Path,
    temperature: float = 1.0,
) -> dict[str, Path]:
    """Draws every figure as PNG into a folder; returns their paths by name. Equal numbers give equal bytes."""
    measured = metrics.measure(predictions, class_names, temperature, replicates=0)
    figures = {
        "confusion_matrix": confusion_matrix(measured),
        "roc_and_pr": roc_and_pr(predictions, class_names),
        "reliability": reliability(measured),
    }
    if history:
        figures["learning_curves"] = learning_curves(history)
    return {name: save(figure, folder / f"{name}.png") for name, figure in figures.items()}


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, whole or not at all."""
    with files.replacing(path) as beside:
        figure.savefig(beside, dpi=100, format="png")
    return path


def confusion_matrix(measured: Mapping[str, Any]) -> Figure:
    """Truth against answer, from `metrics.measure`: colours are shares of the true class, numbers images."""
    names, counts = measured["class_names"], np.array(measured["confusion_matrix"])
    # A class without test images has a row of zeros, not of NaN.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 3.2 + 0.55 * len(names))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set(xlabel="answer", ylabel="truth", title=f"{int(counts.sum())} images")
    if len(names) <= READABLE_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
        _write_counts(axes, counts, shares)
    return figure


def learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and accuracy over the epochs of all phases, with a line where a phase ends."""
    table = pd.DataFrame(list(history))
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(table["epoch"], table[name], marker="o", markersize=3, color=BLUE, label="train")
        axes.plot(table["epoch"], table[f"val_{name}"], marker="o", markersize=3, color=ORANGE, label="valid")
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        _mark_phases(axes, table)
    figure.axes[0].legend(frameon=False)
    return figure


def roc_and_pr(predictions: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """ROC and precision-recall curves, one class against the rest; of two classes, the second one."""
    data = answers.read(predictions, class_names)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    numbers = [1] if data.classes == 2 else range(data.classes)
    for number in numbers:
        belongs, scores = data.truth == number, data.probabilities[:, number]
        if belongs.all() or not belongs.any():
            continue
        label = class_names[number] if data.classes <= READABLE_CLASSES else None
        false_alarms, hits, _ = sk.roc_curve(belongs, scores)
        roc.plot(false_alarms, hits, label=_with(label, sk.roc_auc_score(belongs, scores)))
        precision, recall, _ = sk.precision_recall_curve(belongs, scores)
        pr.step(
            recall, precision, where="post", label=_with(label, sk.average_precision_score(belongs, scores))
        )
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    pr.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.03))
    for axes in (roc, pr):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8)
    return figure


def reliability(measured: Mapping[str, Any]) -> Figure:
    """Accuracy against confidence before and after the temperature, and how many answers each bin holds."""
    calibration = measured["calibration"]
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    if calibration["temperature"] != 1.0:
        error = calibration["before"]["error"]
        _reliability_line(top, calibration["before"]["bins"], GREY, f"before temperature, error {error:.3f}")
    _reliability_line(top, calibration["bins"], BLUE, f"model, error {measured['calibration_error']:.3f}")
    bins = calibration["bins"]
    edges = (np.arange(len(bins)) + 0.5) / len(bins)
    bottom.bar(edges, [row["images"] for row in bins], width=0.9 / len(bins), color=BLUE)
    top.set(ylabel="accuracy", title=f"temperature {calibration['temperature']:.2f}", ylim=(-0.02, 1.02))
    bottom.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    top.grid(alpha=0.3)
    top.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _write_counts(axes: Axes, counts: Any, shares: Any) -> None:
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "#222222"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour)


def _mark_phases(axes: Axes, table: pd.DataFrame) -> None:
    phases = table.groupby("phase", sort=False)["epoch"].agg(["min", "max"])
    for name, first, last in phases.itertuples():
        # A line stands between two phases, so none before the first.
        if first > table["epoch"].min():
            axes.axvline(first - 0.5, color=GREY, linestyle="--", linewidth=1)
        axes.annotate(
            str(name),
            ((first + last) / 2, 0.985),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=8,
            color=GREY,
        )


def _reliability_line(axes: Axes, bins: Sequence[Mapping[str, Any]], colour: str, label: str) -> None:
    # An empty bin has no accuracy, and a line through 0 would say that it is bad.
    filled = [row for row in bins if row["images"]]
    axes.plot(
        [row["confidence"] for row in filled],
        [row["accuracy"] for row in filled],
        marker="o",
        markersize=4,
        color=colour,
        label=label,
    )


def _with(label: str | None, area: float) -> str | None:
    return None if label is None else f"{label}: area {area:.3f}"
