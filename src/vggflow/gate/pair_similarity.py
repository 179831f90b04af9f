"""Pictures compared pair by pair, each pair once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow import packages
from vggflow.data.contents import Contents
from vggflow.data.places import Place
from vggflow.data.spread import Spread
from vggflow.errors import DataError
from vggflow.files import replacing
from vggflow.gate.memory_files import read_memory, remembering
from vggflow.gate.pixel_similarity import VERSION, similarity

Objects = NDArray[np.object_]


class Likeness:
    """How alike pictures are, by their numbers; what was compared once is remembered by their bytes.

    Args:
        contents: where pictures are.
        paths: those of the pictures, below the data folder.
        hashes: the SHA-256 of each.
        folder: where to remember; without one nothing is.
    """

    def __init__(self, contents: Contents, paths: Objects, hashes: Objects, folder: Path | None) -> None:
        self._contents, self._paths, self._hashes = contents, paths, hashes
        self._spread = Spread(contents.folder)
        # Similarities depend on the decoder, so what another one saw is not remembered.
        self._file = folder / f"likeness-{VERSION}-{packages.decoding()}.parquet" if folder else None
        if folder:
            with remembering(folder):
                for old in folder.glob("likeness-*.parquet"):
                    if old != self._file:
                        old.unlink(missing_ok=True)
        self._before = self._remembered()
        self._now: dict[str, float] = {}
        self._asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._paths)

    def of(self, pairs: NDArray[np.int64]) -> Iterator[float]:
        """The similarity of each pair of numbers, in their order.

        Raises:
            DataError: a picture can no longer be read.
        """
        keys = [f"{one} {other}" for one, other in self._hashes[pairs]]
        new = [number for number, key in enumerate(keys) if self._known(key) is None]
        compared = self._spread.for_each(similarity, self._places(pairs[new]))
        for number, key in enumerate(keys):
            known = self._known(key)
            # No pair comes twice in one call, or the results would fall out of step with the pairs.
            value = next(compared) if known is None else known
            if value is None:
                files = " or ".join(str(place) for place in self._contents.places(self._paths[pairs[number]]))
                raise DataError(f"{files} changed while it was looked at: validate again")
            self._now[key] = value
            self._asked.append((int(pairs[number, 0]), int(pairs[number, 1])))
            yield value

    def _places(self, pairs: NDArray[np.int64]) -> list[tuple[Place, Place]]:
        places = list(self._contents.places(self._paths[pairs].ravel()))
        return list(zip(places[::2], places[1::2], strict=True))

    def asked(self) -> NDArray[np.int64]:
        """The pairs that were asked for so far, shape (N, 2), each once."""
        return np.array(sorted(set(self._asked)), dtype=np.int64).reshape(-1, 2)

    def keep(self) -> None:
        """Remembers what this run asked for."""
        # Pairs that nobody asked for this time are forgotten, or the file would only ever grow.
        if self._file and self._now != self._before:
            table = pd.DataFrame({"pair": self._now.keys(), "similarity": self._now.values()})
            with remembering(self._file.parent), replacing(self._file) as beside:
                table.to_parquet(beside, index=False)

    def _known(self, key: str) -> float | None:
        return self._now.get(key, self._before.get(key))

    def _remembered(self) -> dict[str, float]:
        table = read_memory(self._file) if self._file else None
        if table is None:
            return {}
        return dict(zip(table["pair"].tolist(), table["similarity"].tolist(), strict=True))
