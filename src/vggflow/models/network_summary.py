"""The layer table: what each layer is, costs, and in which phase it learns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
from rich.console import Group, RenderableType
from rich.table import Table

from vggflow.console import table
from vggflow.models.builder import frozen_layers
from vggflow.settings import Phase

BYTES_PER_VALUE = 4  # float32
# Keras' own shorter names, for tables of 80 columns.
SHORT_NAMES = {"GlobalAveragePooling2D": "GlobalAvgPool2D"}


@dataclass(frozen=True)
class LayerRow:
    """One layer; its shape and its multiply-adds are those of one image."""

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    learns_in: tuple[str, ...]


@dataclass(frozen=True)
class PhaseTotals:
    """What learns in a phase: parameters, and the multiply-adds an image costs behind the frozen layers."""

    name: str
    freeze_through: str
    learning_parameters: int
    frozen_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """A network in numbers. `activation_bytes` are the outputs of all layers for one image, in float32."""

    layers: tuple[LayerRow, ...]
    phases: tuple[PhaseTotals, ...]
    parameters: int
    parameter_bytes: int
    multiply_adds: int
    activation_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def summarise(model: keras.Model, phases: Sequence[Phase] = ()) -> Summary:
    """The layer table of a network that `builder` made, or of any flat one.

    Raises:
        SettingsError: a phase freezes through a layer that the network does not have.
    """
    frozen = {
        phase.name: {layer.name for layer in frozen_layers(model, phase.freeze_through)} for phase in phases
    }
    # A Sequential has layers only; elsewhere the change of channel order is an operation and no layer.
    operations = getattr(model, "operations", model.layers)
    layers = tuple(_row(operation, frozen) for operation in operations)
    parameters = sum(layer.parameters for layer in layers)
    values = sum(math.prod(layer.output_shape) for layer in layers)
    return Summary(
        layers=layers,
        phases=tuple(_totals(phase, layers, frozen[phase.name]) for phase in phases),
        parameters=parameters,
        parameter_bytes=parameters * BYTES_PER_VALUE,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activation_bytes=values * BYTES_PER_VALUE,
    )


def _row(operation: keras.Operation, frozen: dict[str, set[str]]) -> LayerRow:
    shape = tuple(int(size) for size in operation.output.shape[1:])
    kernel = getattr(operation, "kernel", None)
    parameters = operation.count_params() if isinstance(operation, keras.layers.Layer) else 0
    return LayerRow(
        name=operation.name,
        type=type(operation).__name__,
        output_shape=shape,
        parameters=parameters,
        # A kernel is applied once at each place of the output.
        multiply_adds=0 if kernel is None else math.prod(kernel.shape) * math.prod(shape[:-1]),
        learns_in=tuple(name for name, names in frozen.items() if parameters and operation.name not in names),
    )


def _totals(phase: Phase, layers: Sequence[LayerRow], frozen: set[str]) -> PhaseTotals:
    learning = [layer for layer in layers if layer.name not in frozen]
    learning_parameters = sum(layer.parameters for layer in learning)
    return PhaseTotals(
        name=phase.name,
        freeze_through=phase.freeze_through,
        learning_parameters=learning_parameters,
        frozen_parameters=sum(layer.parameters for layer in layers) - learning_parameters,
        multiply_adds=sum(layer.multiply_adds for layer in learning),
    )


def render(summary: Summary) -> RenderableType:
    """Both tables, layers and phases, and the totals, for a terminal of 80 columns or more."""
    totals = (
        f"{summary.parameters:,} parameters ({_megabytes(summary.parameter_bytes)}); an image costs "
        f"{summary.multiply_adds / 1e9:.2f} G multiply-adds (madds)\n"
        f"and, with the outputs of all layers kept, {_megabytes(summary.activation_bytes)}"
    )
    return Group(_layer_table(summary), "", totals, *(["", _phase_table(summary)] if summary.phases else []))


def _layer_table(summary: Summary) -> RenderableType:
    numbers = _numbers(summary)
    rows = [
        [
            layer.name,
            SHORT_NAMES.get(layer.type, layer.type),
            "×".join(str(size) for size in layer.output_shape),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.multiply_adds / 1e6:,.1f}" if layer.multiply_adds else "",
            *([_state(layer, numbers)] if numbers else []),
        ]
        for layer in summary.layers
    ]
    columns = ["layer", "type", "output", "parameters", "M madds", *(["learns in"] if numbers else [])]
    return _on_one_line(table("", columns, rows))


def _numbers(summary: Summary) -> dict[str, str]:
    """Phases by number, since the names of three are too long for a table of 80 columns."""
    return {phase.name: str(number) for number, phase in enumerate(summary.phases, start=1)}


def _on_one_line(made: Table) -> Table:
    for column in made.columns:
        column.no_wrap = True
    return made


def _state(layer: LayerRow, numbers: Mapping[str, str]) -> str:
    if not layer.parameters:
        return ""
    return " ".join(numbers[name] for name in layer.learns_in) or "frozen"


def _phase_table(summary: Summary) -> RenderableType:
    numbers = _numbers(summary)
    rows = [
        [
            f"{numbers[phase.name]} {phase.name}",
            phase.freeze_through,
            f"{phase.learning_parameters:,}",
            f"{phase.frozen_parameters:,}",
            f"{phase.multiply_adds / 1e6:,.1f}",
        ]
        for phase in summary.phases
    ]
    return table("", ["phase", "frozen through", "learning", "frozen", "M madds behind"], rows)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
