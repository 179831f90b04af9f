"""What lies in the data folder, unread: enough to say beforehand what a training will take."""

from contextlib import suppress
from pathlib import Path

import pandas as pd

from vggflow.data import layout, schema
from vggflow.data.contents import Contents
from vggflow.data.images import EXTENSIONS

# So many of a split are read, for the hashes that let them be decoded; the others have their path for one.
READ = 256


def listed(data_folder: Path) -> pd.DataFrame:
    """A manifest of files that are called like images, none of them looked at: some may be left out later.

    Raises:
        DataError: there is no data folder, or it lacks a split that training needs.
    """
    layout.class_folders(data_folder)
    contents = Contents(data_folder)
    rows: list[dict[str, object]] = []
    read: dict[str, int] = {}
    for path, size in sorted(contents.sizes().items()):
        split, *folders, name = path.split("/")
        if len(folders) != 1 or Path(name).suffix.lower() not in EXTENSIONS:
            continue
        number = read[split] = read.get(split, 0) + 1
        content = path
        if number <= READ:
            with suppress(OSError):  # nobody may read it: the data gate's to say
                content = contents.place(path).sha256()
        rows.append(
            {
                "path": path,
                "split": split,
                "class_name": folders[0],
                "kind": "image",
                "bytes": size,
                "sha256": content,
            }
        )
    return schema.table(rows)
