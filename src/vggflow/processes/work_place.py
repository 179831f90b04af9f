"""Where flows of a workspace run: a queue of a work pool, which workers somewhere serve or not."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class WorkPlace:
    """A queue of a work pool, by the names that Prefect knows."""

    pool: str
    queue: str

    def __str__(self) -> str:
        return f"{self.pool} / {self.queue}"

    @property
    def how_to_serve(self) -> str:
        """What to do where no worker asks it for work."""
        return f"on a machine for it, `prefect worker start --pool {self.pool} --work-queue {self.queue}`"
