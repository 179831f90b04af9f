"""What two trainings were made from, side by side: settings, data, code; only what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Facts = Mapping[str, str]

SETTINGS = ("model.", "train.")
PACKAGE = "package."
COMMIT, DIRTY, SOURCE, HASH = "git.commit", "git.dirty", "sha256.vggflow", "data.hash"
# A commit of the workspace holds settings and data, which are compared themselves: alone it makes no difference.
OF_THE_COMMIT = frozenset({COMMIT, DIRTY})
DATA = (HASH, "data.files", "train_images", "valid_images", "classes", "sha256.start_weights")
CODE = (COMMIT, DIRTY, SOURCE, "device", "devices", "backend", "precision", "xla", "deterministic")


@dataclass(frozen=True)
class Difference:
    """A fact in which two trainings differ; None where one of them has no such thing."""

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True)
class Part:
    """Settings, data or code of two trainings.

    Attributes:
        name: Which of them.
        differences: What differs, by name.
        unrecorded: Of which sides this is not known, `A` and `B`: runs of an older vggflow say less.
        other_images: Whether the images themselves differ, where both tables of them were looked at.
    """

    name: str
    differences: tuple[Difference, ...] = ()
    unrecorded: tuple[str, ...] = ()
    other_images: bool = False

    @property
    def decisive(self) -> tuple[Difference, ...]:
        """The differences that can change a result."""
        return tuple(each for each in self.differences if each.name not in OF_THE_COMMIT)

    @property
    def differs(self) -> bool:
        """Whether it can be why results differ."""
        return bool(self.decisive) or self.other_images

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "differences": {each.name: [each.first, each.second] for each in self.differences},
            "unrecorded": list(self.unrecorded),
            "other_images": self.other_images,
        }


@dataclass(frozen=True)
class Differences:
    """What two trainings were made from.

    Attributes:
        same_inputs: Whether both were computed from the very same, settings, images and machine, to the byte; None
            where one of them does not say.
    """

    settings: Part
    data: Part
    code: Part
    same_inputs: bool | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order in which people ask."""
        return self.settings, self.data, self.code

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {part.name: part.to_dict() for part in self.parts} | {"same_inputs": self.same_inputs}


def differences(first: Facts, second: Facts) -> Differences:
    """What differs between two trainings.

    Args:
        first: Parameters and tags of the first one's run, by name.
        second: Those of the second one's.
    """
    packages = sorted(name for name in {*first, *second} if name.startswith(PACKAGE))
    inputs = first.get("inputs"), second.get("inputs")
    return Differences(
        _settings(first, second),
        _facts("data", DATA, first, second, HASH),
        _with_packages(_facts("code", CODE, first, second, SOURCE), packages, first, second),
        None if None in inputs else inputs[0] == inputs[1],
    )


def with_images(made: Differences, *, differ: bool) -> Differences:
    """The same, where the images themselves were compared: no hash of a folder knows better."""
    return replace(made, data=replace(made.data, unrecorded=(), other_images=differ))


def _settings(first: Facts, second: Facts) -> Part:
    sides = [{key: facts[key] for key in facts if key.startswith(SETTINGS)} for facts in (first, second)]
    unrecorded = _sides(not sides[0], not sides[1])
    if unrecorded:
        return Part("settings", unrecorded=unrecorded)
    names = sorted({*sides[0], *sides[1]})
    return Part("settings", _that_differ(names, *sides))


def _facts(name: str, keys: tuple[str, ...], first: Facts, second: Facts, least: str) -> Part:
    """What both say, compared; `least` is what a side must say to count as known."""
    both = [key for key in keys if key in first and key in second]
    return Part(name, _that_differ(both, first, second), _sides(not first.get(least), not second.get(least)))


def _with_packages(part: Part, packages: list[str], first: Facts, second: Facts) -> Part:
    """Also packages that one side alone has, unless the other names none at all."""
    if not all(any(key.startswith(PACKAGE) for key in facts) for facts in (first, second)):
        return part
    return Part(part.name, part.differences + _that_differ(packages, first, second), part.unrecorded)


def _that_differ(names: list[str], first: Facts, second: Facts) -> tuple[Difference, ...]:
    found = (Difference(name, first.get(name), second.get(name)) for name in names)
    return tuple(each for each in found if each.first != each.second)


def _sides(first: bool, second: bool) -> tuple[str, ...]:
    return tuple(name for name, is_so in (("A", first), ("B", second)) if is_so)
