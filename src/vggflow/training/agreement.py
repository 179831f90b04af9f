"""What the processes of a training have in common: what they were given is compared, what the first holds handed on.

By JAX's collectives over one device of each process, however many they have.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggflow.errors import SettingsError
from vggflow.features.array_files import Arrays
from vggflow.training.hosts import are_several, leads

SHOWN = 3


def refuse_differences(given: Mapping[str, Any]) -> None:
    """Compares what the processes were given: all of them look at all, so all of them end alike.

    Raises:
        SettingsError: it differs.
    """
    if not are_several():
        return
    ours = json.dumps({name: json.dumps(value, default=str) for name, value in given.items()}, sort_keys=True)
    first, *others = (json.loads(text) for text in _texts(ours))
    differences = [
        f"{name} is {_short(first.get(name))} in process 0 and {_short(other.get(name))} in process {number}"
        for number, other in enumerate(others, start=1)
        for name in sorted({*first, *other})
        if first.get(name) != other.get(name)
    ]
    if differences:
        more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise SettingsError(
            f"the processes of a training need the same settings, data and software: {', '.join(differences[:SHOWN])}"
            f"{more}; bring all hosts to the same state"
        )


def _short(value: str | None) -> str:
    shown = "not there" if value is None else value.strip('"')
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def from_first(arrays: Arrays | None) -> Arrays | None:
    """The arrays that the first process gives, by name, in all of them; none where it gives none."""
    written = io.BytesIO()
    if arrays is not None and leads():
        np.savez(written, allow_pickle=False, **arrays)
    content = np.frombuffer(written.getvalue(), np.uint8)
    size = int(_sizes(content)[0])
    if not size:
        return None
    mine = content if leads() else np.zeros(size, np.uint8)
    # The others add nothing to it.
    sent = _over_processes(mine, lambda rows: rows.sum(axis=0, dtype=np.uint8))
    with np.load(io.BytesIO(sent.tobytes()), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _texts(text: str) -> list[str]:
    """The text of each process."""
    content = np.frombuffer(text.encode(), np.uint8)
    sizes = _sizes(content)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = content
    rows = _over_processes(padded, lambda rows: rows)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


def _sizes(content: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many bytes each process has."""
    own = np.frombuffer(np.int64(len(content)).tobytes(), np.uint8)
    return np.ascontiguousarray(_over_processes(own, lambda rows: rows)).view(np.int64)[:, 0]


def _over_processes(numbers: NDArray[np.uint8], combine: Any) -> NDArray[np.uint8]:
    """Bytes, since JAX makes 32 bits of 64."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    firsts = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.array([firsts[process] for process in sorted(firsts)]), ("process",))
    rows = jax.make_array_from_process_local_data(
        NamedSharding(mesh, PartitionSpec("process")), numbers[np.newaxis]
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    return np.asarray(jax.jit(combine, out_shardings=everywhere)(rows))
