"""One measured number of the data gate's benchmarks, with what it should be."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A number, what it should at least or at most be, and a note."""

    measure: str
    what: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def meets_aim(self) -> bool | None:
        """Null where there is no aim."""
        if self.least is None and self.most is None:
            return None
        enough = self.least is None or self.value >= self.least
        return enough and (self.most is None or self.value <= self.most)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"meets_aim": self.meets_aim}

    def to_line(self) -> str:
        aim = f"at least {self.least:g}" if self.least is not None else ""
        aim = f"at most {self.most:g}" if self.most is not None else aim
        met = {True: "met", False: "MISSED", None: ""}[self.meets_aim]
        number = f"{self.value:,.4g} {self.unit}".strip()
        return f"{self.measure:9} {self.what:44} {number:>16}  {aim:16} {met:7} {self.note}".rstrip()
