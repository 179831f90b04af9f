"""The processes of a training meet, and each ends where another one is lost.

`jax.distributed` joins them, as `keras.distribution.initialize` does too, which passes on no time-outs.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import keras

from vggflow.environment import TRAINING_HOSTS
from vggflow.errors import SettingsError, UsageError, VggflowError
from vggflow.processes.native_output import native_output_into
from vggflow.processes.training_group import Member
from vggflow.settings import TrainSettings

# Hosts start at different times, and one may wait until another training leaves its devices.
SECONDS_TO_MEET = 600
# Who does not say for so long that it is alive is lost, and JAX ends all others.
SECONDS_UNTIL_LOST = 60
BIND_ADDRESS = "JAX_COORDINATOR_BIND_ADDRESS"
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
        _meet_at(member, limits)
    if jax.process_index() != member.index:
        raise UsageError(
            f"this is process {member.index} by its environment and {jax.process_index()} by JAX: "
            f"name the hosts in {TRAINING_HOSTS}"
        )


def _meet_at(member: Member, limits: Mapping[str, int]) -> None:
    import jax

    # JAX's own choice is every interface; whoever comes may take part, so it is the one that is named.
    address = os.environ.get(BIND_ADDRESS, member.hosts[0])
    if member.leads:
        _wait_for_name(address.rpartition(":")[0].strip("[]"), limits["initialization_timeout"])
    try:
        jax.distributed.initialize(
            member.hosts[0],
            len(member.hosts),
            member.index,
            coordinator_bind_address=address,
            # In a job of Slurm it would leave this process one GPU of its host.
            cluster_detection_method="deactivate",
            **limits,
        )
    except RuntimeError as error:
        raise VggflowError(
            f"process {member.index} of this training can't listen at {address}: let {TRAINING_HOSTS} name this host "
            f"and a free port first, or set {BIND_ADDRESS} to an address of this host and that port"
        ) from error


def _wait_for_name(host: str, seconds: int) -> None:
    """The name of a pod is known some seconds after the pod has started."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(socket.gaierror):
            socket.getaddrinfo(host, None)
            return
        time.sleep(1)


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


def _is_loss(error: Exception) -> bool:
    if isinstance(error, VggflowError):
        return False
    return any(sign in str(error) for sign in SIGNS_OF_LOSS)
