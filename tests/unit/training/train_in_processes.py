"""One of the processes of a training: `python train_in_processes.py FOLDER PICTURES WHAT`, WHAT being JSON.

Who it is stands in the environment. Writes the model, as process 0, and prints what the training computed with.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tiny_training import Listener, settings

from vggflow.errors import VggflowError
from vggflow.models import files, start_keras
from vggflow.processes import training_group


class Stopping(Listener):
    """Ends this process at a step, as the kernel or power failure would."""

    def __init__(self, step: int, number: int) -> None:
        super().__init__()
        self._step, self._number = step, number

    def on_step(self, done, total, row):
        super().on_step(done, total, row)
        if len(self.steps) == self._step:
            os.kill(os.getpid(), self._number)


def main() -> int:
    """The exit code of the command line."""
    folder, pictures, what = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    start_keras.start("jax")
    from vggflow.gate.scan import scan
    from vggflow.training import hosts
    from vggflow.training.fitting import fit
    from vggflow.training.job import TrainingJob

    member = training_group.member()
    chosen = settings(what["train"], what.get("model"))
    job = TrainingJob(chosen, scan(pictures), pictures, None, folder / "state")
    killed = what.get("killed_at")
    listener = Stopping(killed, signal.SIGKILL) if killed else Listener()
    try:
        with hosts.joined(chosen.train, member, folder / "native.log", what.get("seconds_to_meet", 60)):
            trained = fit(job, listener)
    except VggflowError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if member is None or member.leads:
        files.save(trained.model, trained.info, folder / "model.keras")
    found = {
        "facts": trained.facts,
        "history": trained.history,
        "results": trained.results,
        "resumed": listener.resumed,
    }
    (folder / "found.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
