"""What a file of predictions says on the whole: how many images of each class, and which could not be read."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from vggflow.prediction.batch import MODEL, PATH
from vggflow.prediction.table import ERROR, LABEL

# Of unreadable files, as many are named.
NAMED = 20
COLUMNS = (PATH, LABEL, MODEL, ERROR)


@dataclass
class AnswerCounts:
    """Of one file.

    Attributes:
        images: All rows.
        labels: How many answers each class has.
        unreadable: How many have none.
        examples: The first of these, with their reasons.
        model: What answered.
    """

    images: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    model: str = ""


def count(path: Path) -> AnswerCounts:
    """Of a `.parquet`, `.csv` or `.jsonl` file that `vggflow predict -o` wrote; a batch of rows is in memory."""
    found = AnswerCounts()
    for batch in _batches(path):
        for row in batch.select(COLUMNS).to_pylist():
            found.images += 1
            found.model = row[MODEL] or found.model
            if row[ERROR]:
                found.unreadable += 1
                if len(found.examples) < NAMED:
                    found.examples.append((row[PATH], row[ERROR]))
            else:
                found.labels[row[LABEL]] += 1
    return found


def _batches(path: Path) -> Iterator[Any]:
    kind = path.suffix.lower()
    if kind == ".parquet":
        yield from pa.parquet.ParquetFile(path).iter_batches(columns=list(COLUMNS))
    elif kind == ".csv":
        # As text: a class may be called 007, and a file 1.0.
        options = pa.csv.ConvertOptions(
            include_columns=list(COLUMNS), column_types=dict.fromkeys(COLUMNS, pa.string())
        )
        yield from pa.csv.open_csv(path, convert_options=options)
    else:
        schema = pa.schema([pa.field(name, pa.string()) for name in COLUMNS])
        parsing = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        yield from pa.json.read_json(path, parse_options=parsing).to_batches()
