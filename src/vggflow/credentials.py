"""Passwords that people put into addresses and the environment: none of them gets into what vggflow says or keeps.

`hide` is for text that people read, whoever wrote it: a message of MLflow, of git, a traceback. `without_password` is
for addresses that programs go on using. The name of a user may stay.
"""

import logging
import os
import re
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

HIDDEN = "***"
# Variables of the environment that hold a secret, or an address with one in it.
SECRETS = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_AUTH_ADMIN_PASSWORD"),
    *("MLFLOW_FLASK_SERVER_SECRET_KEY", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"),
    *("PREFECT_SERVER_API_AUTH_STRING", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD"),
    "RAY_AUTH_TOKEN",
)
ADDRESSES = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_API_URL", "VGGFLOW_NOTIFY_URL"),
    *("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL", "VGGFLOW_MLFLOW_URL"),
)
# Shorter ones would be found within ordinary words; within an address they are hidden all the same.
SHORTEST = 8
# user:password@ in front of a host; the password may hold what it should not, such as / and @.
_USER_AND_PASSWORD = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s/@:'\"]*):(?P<rest>(?:(?!://)[^\s'\"<>])*)@", re.I
)
# A token takes the place of the user, with or without a password behind it.
_TOKEN_AS_USER = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<token>(?:gh[a-z]_|github_pat_|glpat-)[^\s/@:'\"]*|[a-z0-9_-]{20,})"
    r"(?=(?::[^\s/'\"]*)?@)",
    re.I,
)
_KEYS = (
    r"(?:[a-z0-9_.-]*(?:token|password|passwd|secret|signature|credential|api_?key|accountkey)|pwd|sig|auth)"
)
_IN_A_QUERY = re.compile(rf"(?P<key>[?&;]{_KEYS}=)(?P<value>[^&;\s'\"#<>]+)", re.I)
_IN_A_HEADER = re.compile(r"(?P<key>authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[^\s'\"]+", re.I)


def hide(text: str) -> str:
    """The text with `***` in the place of the passwords, tokens and signatures of addresses and the environment."""
    for secret in _known():
        text = text.replace(secret, HIDDEN)
    text = _TOKEN_AS_USER.sub(rf"\g<scheme>{HIDDEN}", text)
    text = _USER_AND_PASSWORD.sub(_without, text)
    text = _IN_A_QUERY.sub(rf"\g<key>{HIDDEN}", text)
    return _IN_A_HEADER.sub(rf"\g<key>{HIDDEN}", text)


def hide_in(content: Any) -> Any:
    """The same for everything that is text in lists, tuples and dictionaries."""
    if isinstance(content, str):
        return hide(content)
    if isinstance(content, dict):
        return {key: hide_in(value) for key, value in content.items()}
    if isinstance(content, list):
        return [hide_in(value) for value in content]
    if isinstance(content, tuple):
        return tuple(hide_in(value) for value in content)
    if isinstance(content, BaseException):
        hide_in_error(content)
    return content


def hide_in_error(error: BaseException) -> None:
    """Takes passwords out of an exception that others will write down, and out of those that it came from."""
    error.args = hide_in(error.args)
    if isinstance(message := getattr(error, "message", None), str):
        error.message = hide(message)  # type: ignore[attr-defined]
    for before in (error.__cause__, error.__context__):
        if before is not None and before is not error:
            hide_in_error(before)


def without_password(url: str) -> str:
    """An address that still works for whoever has credentials of their own; other text comes back as it is."""
    try:
        parts = urlsplit(url)
        # Asked for its error: `urlsplit` itself takes any port.
        _ = parts.port
    except ValueError:  # a password with characters that no address may hold
        return re.sub(r"(://)[^\s]*@", r"\1", url)
    if not parts.hostname or "@" not in parts.netloc:
        return url
    # With ssh the user belongs to the place, as in `git@host`, and is no secret.
    user = parts.username if parts.scheme in ("ssh", "git+ssh", "sftp") else None
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))


@contextmanager
def hidden_from_output() -> Iterator[None]:
    """Inside the block nothing that is printed or logged, by whatever library, shows a password."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Hiding(stream)) for stream in before)
    try:
        with hidden_from_logs():
            yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def hidden_from_logs() -> Iterator[None]:
    """From here on Python's logging shows no password, nor does what the block raises."""
    _hide_in_records()
    try:
        yield
    except BaseException as error:
        hide_in_error(error)
        raise


def _hide_in_records() -> None:
    """It stays for the life of the process: what a library logs late is no less public."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides", False):
        return

    def record(*arguments: Any, **named: Any) -> logging.LogRecord:
        made = make(*arguments, **named)
        said = made.getMessage()
        if (shown := hide(said)) != said:  # else the parts stay, which some formatters want
            made.msg, made.args = shown, ()
        if made.exc_info and made.exc_info[1]:
            hide_in_error(made.exc_info[1])
        return made

    record.hides = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(record)


def print_openly(line: str) -> None:
    """A line on stdout as it is, for whoever asked for a password by name."""
    stream = getattr(sys.stdout, "shown_to", sys.stdout)
    stream.write(f"{line}\n")
    stream.flush()


class _Hiding:
    """A stream that shows no password; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.shown_to = stream

    def write(self, text: str) -> int:
        self.shown_to.write(hide(text))
        # Of what was given: whoever writes counts on that.
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shown_to, name)


def _without(found: re.Match[str]) -> str:
    """`host:8080/path?to=a@b` looks like a user with a password, and is none."""
    if re.match(r"\d+/", found["rest"]):
        return found[0]
    return f"{found['scheme']}{found['user']}:{HIDDEN}@"


def _known() -> list[str]:
    """What the environment holds, as it stands there and as libraries write it, the longest first."""
    found: set[str] = set()
    for name in SECRETS:
        value = os.environ.get(name, "")
        # `name:password`: a message may show the password alone.
        found |= {value, value.partition(":")[2]} if name.endswith("AUTH_STRING") else {value}
        if ":" in value:
            # As HTTP's basic authentication sends it.
            found.add(b64encode(value.encode()).decode())
    for name in ADDRESSES:
        for match in _USER_AND_PASSWORD.finditer(os.environ.get(name, "")):
            found.add(match["rest"])
            found.add(b64encode(f"{match['user']}:{unquote(match['rest'])}".encode()).decode())
    spelt = {form for value in found for form in (value, unquote(value), quote(value, safe=""))}
    return sorted((value for value in spelt if len(value) >= SHORTEST), key=len, reverse=True)
