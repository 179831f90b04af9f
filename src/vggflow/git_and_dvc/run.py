"""git and DVC as programs: what they printed, or in one line why they failed and what to do about it.

A failure is never taken for the absence of what was asked for: who asks for something that may be missing names the
exit code by which the command says so.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vggflow.errors import UsageError, VggflowError

LONGEST = 500
IN_ENGLISH = {"LANGUAGE": "en"}  # what is said is read here too
# What DVC and git add for people at a terminal; the reason stands elsewhere.
CHATTER = re.compile(
    r"Having any troubles|<https://error\.dvc\.org|hint:|To track the changes|\s*(git add|dvc config) "
)
REASON = re.compile(r"ERROR: |fatal: |error: |remote: (error|fatal)|! \[")
LOST = "neither locally nor on remote"
# What a program says → what to do about it.
ADVICE = {
    "dubious ownership": "the folder belongs to another user: run `git config --global --add safe.directory {folder}`",
    ".lock': File exists": "another git may be at work here; if none is, remove that file",
    "acquire lock": "another DVC is at work in this workspace: try again when it has ended",
    "RWLock-file": "remove .dvc/tmp/rwlock if no DVC is at work here",
    "No space left": "make room where that is, then run the same command again",
    "Could not resolve host": "check the address and the network",
    "Name or service not known": "check the address and the network",
    "Authentication failed": "check the credentials of the remote",
    "could not read Username": "check the credentials of the remote",
}


# Nobody mends these by waiting.
LASTING = ("dubious ownership", LOST)


class NowhereToBeFound(VggflowError):
    """DVC pushed, but some of what it was to push is neither here nor on the remote."""


class NoRepository(UsageError):
    """git was asked about a folder that is in no git repository."""


def run(command: Sequence[str], folder: Path, environment: dict[str, str], *, none: int | None = None) -> str:
    """What a program printed on stdout.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        environment: All that it finds there.
        none: The exit code by which this command says that there is nothing; it then is an empty text.

    Raises:
        NoRepository: git says that this is no repository.
        UsageError: the program is not installed.
        NowhereToBeFound: DVC pushed without something that it was to push, which it only warns of.
        VggflowError: it failed.
    """
    if shutil.which(command[0], path=environment.get("PATH")) is None:
        raise UsageError(f"`{command[0]}` is not installed or not on the PATH: install it, then try again")
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | IN_ENGLISH,
        capture_output=True,
        text=True,
        # Names of files need not be UTF-8.
        errors="replace",
        check=False,
    )
    # DVC only warns of it, and ends with 0.
    lost = "push" in command and LOST in done.stderr
    if done.returncode == 0 and not lost:
        return done.stdout
    if none is not None and done.returncode == none:
        return ""
    said = done.stderr if done.stderr.strip() else done.stdout
    if "not a git repository" in said:
        raise NoRepository(f"{folder} is in no git repository: run `vggflow init .` there")
    failed = (NowhereToBeFound if lost else VggflowError)(_failure(command, folder, done.returncode, said))
    failed.retry = not any(sign in said for sign in LASTING)
    raise failed


def reason(said: str) -> str:
    """The lines that say why a program failed, as one: from the first that says error, else the last three."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not CHATTER.match(line)]
    first = next((index for index, line in enumerate(lines) if REASON.match(line)), None)
    told = " ".join(" ".join(lines[-3:] if first is None else lines[first:]).split())
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}…"


def _failure(command: Sequence[str], folder: Path, code: int, said: str) -> str:
    told = reason(said) or "it said nothing"
    advice = next((text for sign, text in ADVICE.items() if sign in said), "")
    return f"`{_shown(command)}` failed in {folder} with exit code {code}: {told}" + (
        f": {advice.format(folder=folder)}" if advice else ""
    )


def _shown(command: Sequence[str]) -> str:
    """The command as a person would type it."""
    typed = list(command[2:]) if command[1:2] == ["-m"] else [Path(command[0]).name, *command[1:]]
    return " ".join(typed)
