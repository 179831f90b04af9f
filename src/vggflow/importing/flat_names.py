"""Classes that stand in the names of files, as in `cat.0.jpg`: taken only where nearly all names tell one."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

from vggflow.data.names import composed

# What a shape must explain of the images it is told from; one is always allowed to be odd.
NEARLY_ALL = 0.95

# `cat.0`, `cat_001`, `cat (12)`: a name, what separates, a number.
_NUMBERED = re.compile(r"(?P<name>.*?)[._\- (]*[0-9]+\)?", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")  # letters of any script
# How cameras, scanners and programs call their files, whatever is to be seen.
_NO_CLASSES = frozenset({
    "img", "dsc", "dscn", "dscf", "dcim", "pict", "pic", "pics", "pxl", "mvimg", "image", "images", "photo", "photos",
    "picture", "pictures", "screenshot", "scan", "frame", "file", "sam", "cimg", "gopr", "untitled", "download", "foto",
    "bild", "snapshot", "whatsapp", "test", "train", "val", "valid",
})  # fmt: skip


def is_nearly_all(part: int, whole: int) -> bool:
    """Whether so many of so many leave no more than one in twenty, or one, unexplained."""
    return whole - part <= max(1, round((1 - NEARLY_ALL) * whole))


def class_in(stem: str) -> str | None:
    """The class that a file's name tells, such as `cat` of `cat.0`; null where there is none, as in `17`."""
    match = _NUMBERED.fullmatch(composed(stem))
    name = match["name"] if match else ""
    letters = name and _is_letter(name[0]) and _is_letter(name[-1])
    return name if letters else None


def classes_in(stems: Collection[str], known: Collection[str]) -> frozenset[str]:
    """The classes that these files' names tell, or none: where names tell too little, or what cameras write.

    Args:
        known: Classes that there are for another reason: these may stand alone, and be called anything.
    """
    named = Counter(name for name in map(class_in, stems) if name is not None)
    strange = {name for name in named if name not in known}
    if not is_nearly_all(named.total(), len(stems)) or any(map(_is_no_class, strange)):
        return frozenset()
    # Names that hardly two files share are names, not classes.
    single = sum(1 for name in strange if named[name] == 1)
    if (strange and len({*named, *known}) < 2) or not is_nearly_all(named.total() - single, named.total()):
        return frozenset()
    return frozenset(named)


def share_of(stems: Iterable[str], classes: Collection[str]) -> int:
    """How many of these files' names tell one of these classes."""
    return sum(class_in(stem) in classes for stem in stems)


def _is_no_class(name: str) -> bool:
    word = _WORD.match(name)
    return word is not None and word[0].casefold() in _NO_CLASSES


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"  # M, as in Hindi a word may end in a mark
