"""What is claimed about the data gate, measured: `python -m benchmarks.gate [scan|near|validate|planting] [--json]`.

    scan       first and second scan of photographs, against the bare minimum and, with --cleanvision,
    CleanVision near       near-duplicate search on a million made-up hashes validate   Great Expectations on
    a made-up manifest of a million rows planting   faults planted in photographs: found, missed, and false
    alarms

Without a name all are run. Photographs come from VGGFLOW_PHOTOS; without it `scan` and `planting` are left
out. A missed aim ends with exit code 1.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import gate_planting, gate_scale, gate_scan
from benchmarks.gate_rows import Row

MEASURES: dict[str, Callable[[argparse.Namespace, Path], Iterator[Row]]] = {
    "scan": gate_scan.rows,
    "near": gate_scale.near_rows,
    "validate": gate_scale.validate_rows,
    "planting": gate_planting.rows,
}
WITH_PHOTOS = {"scan", "planting"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", nargs="?", choices=MEASURES)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--images", type=int, default=10_000, help="photographs to scan")
    parser.add_argument("--rows", type=int, default=1_000_000, help="hashes to search, rows to validate")
    parser.add_argument("--seed", type=int, default=0, help="which photographs become faults")
    parser.add_argument(
        "--cleanvision", action="store_true", help="also CleanVision, installed beside; minutes"
    )
    options = parser.parse_args()
    options.photos = os.environ.get("VGGFLOW_PHOTOS")
    failed = False
    for name in [options.measure] if options.measure else MEASURES:
        if name in WITH_PHOTOS and not options.photos:
            print(f"{name}: left out, VGGFLOW_PHOTOS is not set", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in MEASURES[name](options, Path(folder)):
                print(json.dumps(row.to_dict()) if options.json else row.to_line(), flush=True)
                failed |= row.meets_aim is False
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
