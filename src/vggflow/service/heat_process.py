"""Heat maps for the service, drawn by a process of its own: they need Keras, which takes seconds and much memory.

    python -m vggflow.service.heat_process MODEL.keras

is that process: it answers each line of JSON with one, and ends when its input does.
"""

import asyncio
import base64
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import IO, cast

from vggflow.errors import VggflowError
from vggflow.models import start_keras
from vggflow.service.limits import RequestRefused
from vggflow.service.served_model import Loaded


class HeatProcess:
    """Started at the first heat map, kept for the next ones; another model has another."""

    def __init__(self) -> None:
        # One picture after the other, also where somebody did not wait for his.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="heat")
        self._title = ""
        self._process: subprocess.Popen[bytes] | None = None
        # What the process reads of: the model's file.
        self._held = ExitStack()

    async def draw(self, loaded: Loaded, image: bytes, label: str) -> str:
        """The image below the heat map of a class, a picture as a `data:` address.

        Raises:
            RequestRefused: the model is an exported graph, which has no gradients.
            VggflowError: the model's file can't be had, or the process failed.
        """
        if loaded.keras_file is None:
            raise RequestRefused(
                HTTPStatus.NOT_FOUND, f"no heat maps of {loaded.title}: they need a .keras file"
            )
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, loaded, image, label)

    def close(self) -> None:
        """Ends the process, at work or not."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
        self._held.close()

    def _ask(self, loaded: Loaded, image: bytes, label: str) -> str:
        if self._process is None or self._process.poll() is not None or self._title != loaded.title:
            self._start(loaded)
        process = cast("subprocess.Popen[bytes]", self._process)
        stdin, stdout = cast("tuple[IO[bytes], IO[bytes]]", (process.stdin, process.stdout))
        try:
            stdin.write(json.dumps([base64.b64encode(image).decode(), label]).encode() + b"\n")
            stdin.flush()
            answer = json.loads(stdout.readline() or b"{}")
        except (OSError, ValueError) as error:
            raise VggflowError(f"no heat map of {loaded.title}: {error}") from error
        if "picture" not in answer:
            raise VggflowError(f"no heat map of {loaded.title}: {answer.get('error', 'its process ended')}")
        return str(answer["picture"])

    def _start(self, loaded: Loaded) -> None:
        self._end()
        self._held, self._title = ExitStack(), loaded.title
        keras_file = loaded.keras_file
        path = self._held.enter_context(keras_file()) if keras_file else None
        command = [sys.executable, "-m", "vggflow.service.heat_process", str(path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )


def main(arguments: list[str]) -> None:
    """The program."""
    # What libraries print would else be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    start_keras.start()
    from vggflow.evaluation.heat import heat_maps
    from vggflow.report.pictures import heat_map

    make = heat_maps(Path(arguments[0]))
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        picture = Path(folder) / "image"
        for line in sys.stdin:
            encoded, label = json.loads(line)
            picture.write_bytes(base64.b64decode(encoded))
            try:
                answer = {"picture": heat_map(make([(picture, label)])[0])}
            except (VggflowError, ValueError) as error:
                answer = {"error": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
