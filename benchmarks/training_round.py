"""One training, timed, in a process of its own: `python -m benchmarks.training_round plain|ours PLAN.json`.

Each side has what it would have by itself: plain Keras none of vggflow's switches. Before the clock starts, each
trains on a few images, so that devices, libraries and files are warm for both.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

WHO = ("plain", "ours")


def plain(given: dict[str, Any]) -> dict[str, Any]:
    """What a user would otherwise write."""
    os.environ["KERAS_BACKEND"] = given["backend"]
    from benchmarks import training_plain

    plan = training_plain.Plan(**given["plan"])
    training_plain.train(Path(given["few"]), plan, given["policy"])
    return asdict(training_plain.train(Path(given["data"]), plan, given["policy"]))


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """The same with vggflow, from an empty cache."""
    from vggflow.models import start_keras

    start_keras.start(given["backend"], deterministic=given["deterministic"])
    from benchmarks import training_ours, training_plain

    plan = training_plain.Plan(**given["plan"])
    state = Path(given["state"])
    more = {"deterministic": given["deterministic"], "features": {"cache": given["cache"]}}
    settings = training_ours.settings(plan, given["precision"], **more)
    training_ours.train(training_ours.job(Path(given["few"]), state / "few", settings))
    if given["backend"] == "jax":
        import jax
        from jax.experimental.compilation_cache import compilation_cache

        # A new one, as a first training has: else it would find there what the few images let it compile.
        jax.config.update("jax_compilation_cache_dir", str(state / "compiled"))
        compilation_cache.reset_cache()
    return asdict(training_ours.train(training_ours.job(Path(given["data"]), state / "all", settings)))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    asked = json.loads(Path(sys.argv[2]).read_text())
    found = {"plain": plain, "ours": ours}[sys.argv[1]](asked)
    print(json.dumps(found))
