"""The checkpoint of a training in several processes: the first one keeps it, the others have it from there.

So all go on from the same epoch, on whatever host the first one is, and no disk is shared.
"""

from contextlib import AbstractContextManager, nullcontext

from vggflow.features.array_files import Arrays
from vggflow.training import agreement, hosts
from vggflow.training.checkpoints import Checkpoints, Progress, apart, together


class FromLeader(Checkpoints):
    """What `Checkpoints` is for a training in one process; every process calls the same methods in the same order."""

    def held(self) -> AbstractContextManager[None]:
        """Within the block, no other training writes here."""
        return super().held() if hosts.leads() else nullcontext()

    def save(self, progress: Progress, arrays: Arrays) -> None:
        """Replaces the checkpoint, atomically."""
        if hosts.leads():
            super().save(progress, arrays)

    def save_best(self, progress: Progress, arrays: Arrays) -> None:
        """Keeps the weights of the epoch `progress.best_epoch`."""
        if hosts.leads():
            super().save_best(progress, arrays)

    def load(self) -> tuple[Progress, Arrays] | None:
        """The checkpoint, if the first process has one."""
        found = super().load() if hosts.leads() else None
        sent = agreement.from_first(together(*found) if found else None)
        return apart(sent) if sent else None

    def begin(self, progress: Progress) -> Progress:
        """What the first process begins with: it has decided for all."""
        return apart(agreement.from_first(together(progress, {})) or {})[0]

    def load_best(self, progress: Progress) -> Arrays:
        """The weights that `save_best` kept."""
        return agreement.from_first(super().load_best(progress) if hosts.leads() else None) or {}

    def load_arrays(self) -> Arrays:
        """The numbers that `save` kept last."""
        return agreement.from_first(super().load_arrays() if hosts.leads() else None) or {}
