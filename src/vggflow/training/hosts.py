"""The processes of a training as one: they meet, compare what they were given, and hand on what the first one holds.

`jax.distributed` joins them, as `keras.distribution.initialize` does too, which passes on no time-outs.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.environment import TRAINING_HOSTS
from vggflow.errors import SettingsError, UsageError, VggflowError
from vggflow.features.array_files import Arrays
from vggflow.processes.native_output import native_output_into
from vggflow.processes.training_group import Member
from vggflow.settings import TrainSettings

# Hosts start at different times, and one may wait until another training leaves its devices.
SECONDS_TO_MEET = 600
# Who does not say for so long that it is alive is lost, and JAX ends all others.
SECONDS_UNTIL_LOST = 60
BIND_ADDRESS = "JAX_COORDINATOR_BIND_ADDRESS"
SHOWN = 3
# How JAX and its libraries say that another process does not answer any more.
SIGNS_OF_LOSS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "coordination service")


@contextmanager
def joined(
    settings: TrainSettings, member: Member | None, log: Path, seconds_to_meet: int = SECONDS_TO_MEET
) -> Iterator[None]:
    """Within the block, this process is one of those that train together; nothing happens where it trains alone.

    Before anything computes with JAX. A process that leaves the block by an error has to end: the others wait for it.

    Args:
        log: For what native libraries print meanwhile.
        seconds_to_meet: After so many JAX ends this process where others did not come.

    Raises:
        SettingsError: the settings know nothing of several processes, or their number does not fit.
        UsageError: JAX does not find the others.
        VggflowError: another process was lost.
    """
    if member is None:
        yield
        return
    import jax

    _refuse(settings, member.count)
    # Its handler would take the place of the one that ends a stage in time.
    jax.config.update("jax_enable_preemption_service", False)
    # Where nobody knows how many processes there are before they meet, a device each.
    use_processors((settings.devices or 1) // (member.count or settings.devices or 1))
    with native_output_into(log):
        _meet(member, seconds_to_meet)
        try:
            _refuse(settings, jax.process_count())
            yield
        except Exception as error:
            if _is_loss(error):
                raise VggflowError(
                    "another process of this training was lost: its checkpoint is kept, run the same command on every "
                    f"host again; what JAX said: {' '.join(str(error).split())[:160]}"
                ) from error
            raise
        # Only here: it waits for the others, which do not come where something failed.
        jax.distributed.shutdown()


def _meet(member: Member, seconds: int) -> None:
    import jax

    limits = {"initialization_timeout": seconds, "heartbeat_timeout_seconds": SECONDS_UNTIL_LOST}
    if not member.hosts:
        try:
            jax.distributed.initialize(**limits)
        except (ValueError, RuntimeError, OSError) as error:
            raise UsageError(
                f"JAX finds no other processes of a job ({' '.join(str(error).split())[:160]}): start this by Slurm's "
                f"srun or in a Kubernetes Job, or name the hosts in {TRAINING_HOSTS}"
            ) from error
    else:
        jax.distributed.initialize(
            member.hosts[0],
            len(member.hosts),
            member.index,
            # JAX's own choice is every interface; whoever comes may take part, so it is the one that is named.
            coordinator_bind_address=os.environ.get(BIND_ADDRESS, member.hosts[0]),
            # In a job of Slurm it would leave this process one GPU of its host.
            cluster_detection_method="deactivate",
            **limits,
        )
    if jax.process_index() != member.index:
        raise UsageError(
            f"this is process {member.index} by its environment and {jax.process_index()} by JAX: "
            f"name the hosts in {TRAINING_HOSTS}"
        )


def _refuse(settings: TrainSettings, processes: int | None) -> None:
    if settings.backend != "jax":
        raise SettingsError(
            f"train.backend is {settings.backend}, which trains in one process, but {TRAINING_HOSTS} names several: "
            "use jax, or unset it"
        )
    if settings.devices is None or (processes and settings.devices % processes):
        raise SettingsError(
            f"train.devices is {settings.devices or 'not set'}, expected as many for each of the "
            f"{processes or ''} processes that {TRAINING_HOSTS} names".replace("  ", " ")
            + ": set it to all devices of all hosts"
        )


def use_processors(devices: int) -> None:
    """Lets JAX make so many devices of a processor, shared among processes; in vain where it has started already.

    Whoever said how many in `XLA_FLAGS` has decided.
    """
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        return


def are_several() -> bool:
    """Whether this is one of several processes. Asked before JAX starts, it does not start it."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return bool(jax.distributed.is_initialized()) and jax.process_count() > 1


def leads() -> bool:
    """Whether this process writes: the first of several, or the only one."""
    if not are_several():
        return True
    import jax

    return bool(jax.process_index() == 0)


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
    """Bytes, since JAX makes 32 bits of 64. By one device of each process, however many they have."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    firsts = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.array([firsts[process] for process in sorted(firsts)]), ("process",))
    rows = jax.make_array_from_process_local_data(
        NamedSharding(mesh, PartitionSpec("process")), numbers[np.newaxis]
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    return np.asarray(jax.jit(combine, out_shardings=everywhere)(rows))


def _is_loss(error: Exception) -> bool:
    if isinstance(error, VggflowError):
        return False
    return any(sign in str(error) for sign in SIGNS_OF_LOSS)
