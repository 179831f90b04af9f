"""When two names are one: to people who read them, or to a file system that is not this one.

Linux keeps names as bytes. macOS takes composed and decomposed letters for one, Windows and macOS take upper and
lower case for one, and Windows drops blanks and dots at the end.
"""

import unicodedata

IN_CASE = "differs in case"


def key(name: str) -> str:
    """What is equal for two names that some system takes for one."""
    if name.isascii():
        return _trimmed(name).casefold()
    # Marks without a form of their own, such as joiners, are ignored by HFS+, and by everybody's eyes.
    seen = "".join(letter for letter in _trimmed(name) if unicodedata.category(letter) != "Cf")
    # Folding may take a name apart again, as it does with the Greek iota below a letter.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", _trimmed(seen)).casefold())


def tidy(name: str) -> str:
    """A name as a new class folder gets it: composed letters, no blanks around it, no dots at its end."""
    return _trimmed(composed(name))


def composed(name: str) -> str:
    """A name with each letter and its accents as one character where there is one (NFC)."""
    return unicodedata.normalize("NFC", name)


def difference(one: str, other: str) -> str:
    """In what two names differ that have one key."""
    if composed(one) == composed(other):
        return "differs only in how its accents are written"
    if tidy(one) == tidy(other):
        return "differs only in blanks or dots around it"
    if tidy(one).casefold() == tidy(other).casefold():
        return IN_CASE
    return "differs only in marks that nobody sees"


def _trimmed(name: str) -> str:
    trimmed = name.rstrip().rstrip(". ")
    begun = trimmed.lstrip()
    # What begins with a dot would be hidden.
    return name if not begun else trimmed if begun.startswith(".") else begun


def printable(text: str) -> str:
    """A name in one line: control characters, such as a newline in a file name, become escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )
