"""What runtimes take to a first answer: `python -m benchmarks.runtimes --workspace DIR [--python PYTHON] [--json]`.

The champion of a workspace, exported in float32 for each runtime that `--python` has (onnxruntime, ai-edge-litert,
openvino; by default the Python that runs this), answers one image in a process of its own, and the `.keras` file
through Keras. Of three processes each the quickest counts; memory is the most that was held.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.training import Row, row, show_all
from vggflow.commands import named_model
from vggflow.commands.export import REPORT, SUFFIXES

PROCESSES = 3
# Each with the module that it needs, and how it answers an image of zeros.
RUNTIMES = {
    "onnx": (
        "onnxruntime",
        "session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])\n"
        "session.run(None, {session.get_inputs()[0].name: image})",
    ),
    "litert": (
        "ai_edge_litert.interpreter",
        "found = ai_edge_litert.interpreter.Interpreter(path)\nfound.allocate_tensors()\n"
        "found.set_tensor(found.get_input_details()[0]['index'], image)\nfound.invoke()",
    ),
    "openvino": (
        "openvino",
        "core = openvino.Core()\n"
        "core.compile_model(path + '/model.xml', 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})(image)",
    ),
}
PROGRAM = """
import resource, sys, time
began = time.perf_counter()
import numpy, {module}
path, size = sys.argv[1], int(sys.argv[2])
image = numpy.zeros((1, size, size, 3), 'float32')
{answer}
used = resource.getrusage(resource.RUSAGE_SELF)
print([time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024])
"""
KERAS = (
    "from vggflow.models import start_keras; start_keras.start('tensorflow')\n"
    "from vggflow.models import files; from pathlib import Path\n"
    "files.load(Path(path))[0].predict_on_batch(image)"
)


def measure(workspace: Path, python: str, folder: Path) -> Iterator[Row]:
    """Wall and CPU seconds and memory of each."""
    export = [sys.executable, "-m", "vggflow.cli", "-C", str(workspace), "export", "champion", "--format"]
    size, missing = 0, list[str]()
    for form, (module, answer) in RUNTIMES.items():
        if subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode:
            missing.append(form)
            continue
        path = folder / f"model{SUFFIXES.get(form, '')}"
        subprocess.run([*export, form, "-o", str(path)], check=True, capture_output=True)
        size = json.loads(path.with_name(path.name + REPORT).read_text())["image_size_px"]
        yield from _first_answer(
            form, [python, "-c", PROGRAM.format(module=module, answer=answer)], path, size
        )
    if missing:
        print(f"not measured: {python} has no runtime for {', '.join(missing)}", file=sys.stderr)
    if size:
        keras = [sys.executable, "-c", PROGRAM.format(module="vggflow", answer=KERAS)]
        with named_model.located(workspace, "champion") as file:
            yield from _first_answer("keras", keras, file.path, size)


def _first_answer(name: str, command: list[str], path: Path, size: int) -> Iterator[Row]:
    told = [
        json.loads(
            subprocess.run(
                [*command, str(path), str(size)], check=True, capture_output=True, text=True
            ).stdout
        )
        for _ in range(PROCESSES)
    ]
    wall, cpu, memory = min(told)
    yield row(f"{name}: first answer, s", wall, None, least=False)
    yield row(f"{name}: CPU seconds to it", cpu, None, least=False)
    yield row(f"{name}: most memory, MiB", memory, None, least=False)


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.runtimes", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--workspace", type=Path, required=True, help="one with a champion")
    parser.add_argument("--python", default=sys.executable, help="one that has the runtimes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.workspace, given.python, Path(folder))
        return show_all(found, judged=False, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
