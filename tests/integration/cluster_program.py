"""What drivers and workers of the tests of clusters run.

    python -m cluster_program DATA_FOLDER WHAT

It prints a line of JSON for what it found, and a line `begun` when the first result is there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cluster_work import Whereabouts, crashed, first_bytes, slowly

from vggflow import cluster_workers
from vggflow.data import manifest as manifests
from vggflow.data.contents import Contents
from vggflow.data.spread import Spread
from vggflow.errors import VggflowError
from vggflow.gate.pixel_similarity import similarity
from vggflow.gate.scan import scan


def main() -> None:
    folder, what = Path(sys.argv[1]), sys.argv[2]
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file())
    places = list(Contents(folder).places(paths))
    spread = Spread(folder)
    if what == "scan":
        found: Any = manifests.digest(scan(folder))
    elif what == "pairs":
        found = list(spread.for_each(similarity, list(zip(places, places[7:], strict=False))))
    elif what == "where":
        found = []
        for node in cluster_workers.for_each(Whereabouts, 0.5, range(100), one_per="core"):
            if not found:
                print("begun", flush=True)  # noqa: T201
            found.append(node)
    else:
        found = []
        for result in spread.for_each({"bytes": first_bytes, "slowly": slowly}[what], places, crashed):
            if not found:
                print("begun", flush=True)  # noqa: T201 (a program's own output)
            found.append(result)
    print(json.dumps({"found": found, "ray": "ray" in sys.modules}))  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except VggflowError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
