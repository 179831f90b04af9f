"""Looks for near hashes of so many made-up pictures that the nodes of a cluster are asked.

    python -m cluster_hashes

It prints a line of JSON: digests of what was found, how much that is, and whether Ray was used.
"""

import hashlib
import json
import sys

import numpy as np
import pandas as pd

from vggflow.data.schema import CROP_HASHES
from vggflow.gate.candidate_pairs import candidates
from vggflow.gate.hash_nodes import FEWEST_FOR_NODES
from vggflow.gate.hash_search import look_up

PICTURES = FEWEST_FOR_NODES // len(CROP_HASHES) + 5000
CROWD = 300


def main() -> None:
    chance = np.random.default_rng(0)
    whole = chance.integers(0, 2**64, PICTURES, dtype=np.uint64)
    crops = {name: chance.integers(0, 2**64, PICTURES, dtype=np.uint64) for name in CROP_HASHES}
    whole[1000:3000] = whole[:2000][::2].repeat(2) ^ np.uint64(0b1001) << np.uint64(20)
    crops["crop_hash_3"][:500] = whole[-500:]
    # So many near each other that their lists are cut.
    crowd = whole[0] ^ chance.integers(0, 2**10, CROWD, dtype=np.uint64) << np.uint64(30)
    whole[-CROWD:] = crowd
    crops["crop_hash_1"][-CROWD:] = crowd ^ np.uint64(1)
    pairs = candidates(pd.DataFrame({"perceptual_hash": whole, **crops}), 8)
    base, queries = np.unique(whole), np.sort(np.concatenate(list(crops.values())))
    unlisted = np.zeros(len(base), bool)
    hits = look_up(queries, base, 6, unlisted)
    told = {
        "found": {"pairs": _digest(pairs), "hits": _digest(*hits), "unlisted": _digest(unlisted)},
        "counts": [len(pairs), len(hits.query), int(unlisted.sum())],
        "ray": "ray" in sys.modules,
    }
    print(json.dumps(told))  # noqa: T201 (a program's own output)


def _digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


if __name__ == "__main__":
    main()
