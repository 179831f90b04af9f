"""How long the texts may be that MLflow keeps: checked before anything is written, since its refusal comes halfway.

SQLite keeps texts of any length; PostgreSQL, MySQL and SQL Server refuse what is longer than its column, which MLflow
itself does not check (`mlflow.store.model_registry.dbmodels`, `mlflow.utils.validation`). Imports no MLflow.
"""

import hashlib

from vggflow.errors import UsageError

# The columns' lengths. Of a tag MLflow itself lets 100,000 characters pass.
REGISTERED_MODEL_TAG = 5_000
DESCRIPTION = 5_000
RUN_NAME = 250
KEY = 250
PARAM = 6_000
# A rollback's facts are JSON in one tag of the registered model, where a quote takes two characters.
REASON = 2_000
PERSON = 200
DIGEST = 16


def said(text: str, option: str, most: int) -> str:
    """A text that a person gives for the record, as it was given.

    Args:
        text: What was given.
        option: By which option, for the message.
        most: How many characters it may have.

    Raises:
        UsageError: it is empty, too long, or holds characters that no database keeps.
    """
    if not text.strip():
        raise UsageError(f"{option} is empty: it stands in the record for good")
    if len(text) > most:
        raise UsageError(f"{option} has {len(text):,} characters, at most {most:,}: say it shorter")
    odd = next((c for c in text if not c.isprintable() and c not in "\n\r\t" and _is_kept_by_none(c)), None)
    if odd is not None:
        raise UsageError(f"{option} holds the character {odd!a}, which can't be stored: leave it out")
    return text


def cut(text: str, most: int) -> str:
    """A text that a program made, with `…` where it had to end."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def key(name: str) -> str:
    """A key that is short enough: of a longer one its beginning and a digest, so that no two become one."""
    if len(name) <= KEY:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST]
    return f"{name[: KEY - DIGEST - 1]}_{digest}"


def _is_kept_by_none(character: str) -> bool:
    """Control characters, and halves of characters that come from bytes which are no UTF-8."""
    return ord(character) < 0x20 or character == "\x7f" or 0xD800 <= ord(character) <= 0xDFFF
