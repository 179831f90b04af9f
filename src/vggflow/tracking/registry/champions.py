"""The history of champions: who is in use, what is promoted next, what is rolled back.

The versions of the production model *are* the history. Version numbers are unique in the registry's database, never
come twice, and are the only atomic counter there is, so they decide between promoters that run at once:

1. A promotion and a rollback are *acts*, and each is decided on against a *state*: the champion's number and the
   number of the last act that was done.
2. An act is *claimed*: a version is created that carries the state. The lowest number of a state wins; the others are
   deleted. A promotion's version is a copy of the candidate and stays; a rollback's is a mark and goes again.
3. The winner's act is done: a promotion is done by a tag of its version; a rollback is written down in a tag of
   the registered model, so that deleting a version loses neither the rollback nor its hold. Then the alias moves.

Each step writes what any other process would write at that place, and can be repeated by anybody, so whoever comes
next completes what a killed process began. A claim whose act the server refuses for good, as where a text is longer
than its database takes, is lost: else it would stand before every later one. Order is that of the numbers and times are
the server's: no clock of a promoter's machine decides anything. A rollback *holds* automatic promotion until it is
released.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vggflow.errors import UsageError
from vggflow.tracking import limits
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.registry.champion_alias import CHAMPION
from vggflow.tracking.registry.model_versions import (
    Version,
    ensure_registered_model,
    tags_of,
    versions,
)
from vggflow.tracking.registry.registry import Registry

# Tags of versions.
STATE = "promotion.state"
PROMOTED_AT = "promotion.crowned"
CANDIDATE = "promotion.candidate"
TAKES_BACK = "rollback.version"
RETURNS = "rollback.to"
# What only this module and who decides may write: a trainer's tags of these names are not copied.
OURS = ("promotion.", "rollback.", "release.")
# Tags of the registered model: `rollback.7`, and `release.7` where somebody released the hold of that rollback.
ROLLBACK, RELEASE = "rollback.", "release."
# How PostgreSQL, SQLite and MySQL say that a row is there already.
TWICE = re.compile("UniqueViolation|UNIQUE constraint failed|Duplicate entry")
# What the server says of a value that it will not take today or tomorrow, by MLflow's limits or the database's.
NEVER = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Rollback:
    """A rollback that was done.

    Attributes:
        number: Its place in the order of acts.
        taken_back: The version that it took out of use.
        to: The version that came back.
        at: When, UTC, by the server's clock.
        facts: What else is known: by, reason, run.
        release: Who released its hold and why; nothing while it holds.
    """

    number: int
    taken_back: int
    to: int
    at: str
    facts: Mapping[str, str]
    release: Mapping[str, str] | None = None


@dataclass(frozen=True)
class PeriodInUse:
    """A time in which a version was champion: from, until (None: still), both UTC as `2026-11-21T03:10:00.000Z`."""

    number: int
    since: str
    until: str | None


@dataclass(frozen=True)
class Champions:
    """What the production model's versions say, and the rollbacks in the tags of the model itself, oldest first."""

    versions: tuple[Version, ...]
    rollbacks: tuple[Rollback, ...] = ()

    @property
    def promoted_versions(self) -> tuple[Version, ...]:
        """Every version that was or is champion, oldest first."""
        return tuple(version for version in self.versions if PROMOTED_AT in version.tags)

    @property
    def stack(self) -> tuple[Version, ...]:
        """The champions that were not rolled back, oldest first: the last is in use."""
        taken_back = {rollback.taken_back for rollback in self.rollbacks}
        return tuple(version for version in self.promoted_versions if version.number not in taken_back)

    @property
    def champion(self) -> Version | None:
        """The version in use."""
        return self.stack[-1] if self.stack else None

    @property
    def hold(self) -> Rollback | None:
        """The last rollback that holds automatic promotion; none where all were released."""
        return next((each for each in reversed(self.rollbacks) if each.release is None), None)

    @property
    def state(self) -> str:
        """What a promotion or a rollback is decided against. Equal states mean equal champions and rollbacks."""
        champion = self.champion.number if self.champion else 0
        acts = [version.number for version in self.promoted_versions] + [
            each.number for each in self.rollbacks
        ]
        return f"{champion}.{max(acts, default=0)}"

    @property
    def claims(self) -> tuple[Version, ...]:
        """Acts that somebody claimed and nobody has done yet, for the present state, lowest first."""
        return tuple(v for v in self._undone if v.tags[STATE] == self.state)

    @property
    def lost(self) -> tuple[Version, ...]:
        """Claims for a state that is over. A version that somebody made by hand has no state and is left alone."""
        return tuple(v for v in self._undone if v.tags[STATE] != self.state)

    @property
    def _undone(self) -> tuple[Version, ...]:
        return tuple(v for v in self.versions if STATE in v.tags and PROMOTED_AT not in v.tags)

    def periods_in_use(self, deleted: Mapping[int, str] | None = None) -> tuple[PeriodInUse, ...]:
        """Who was champion from when until when, oldest first; a rollback puts an old version into use again.

        Args:
            deleted: Champions whose versions were deleted since, and when they were promoted.
        """
        promoted = {version.number: _made(version) for version in self.promoted_versions}
        acts = [(number, number, at) for number, at in {**(deleted or {}), **promoted}.items()]
        acts += [(each.number, each.to, each.at) for each in self.rollbacks]
        acts.sort()
        now = self.champion.number if self.champion else 0
        if acts and acts[-1][1] != now:  # the last one was deleted, nobody knows when
            acts.append((acts[-1][0] + 1, now, acts[-1][2]))
        ends = [*(at for _, _, at in acts[1:]), None] if acts else []
        return tuple(
            PeriodInUse(number, since, until)
            for (_, number, since), until in zip(acts, ends, strict=True)
            if number
        )


def read(registry: Registry) -> Champions:
    """The history as the server has it now.

    Versions are read before the model's tags: a claim that is seen here then belongs to a state that the tags know.
    """
    found = versions(registry.client, registry.names.name)
    return Champions(tuple(found), _rollbacks(tags_of(registry.client, registry.names.name)))


def settle(registry: Registry) -> Champions:
    """Completes what a killed promotion or rollback began, and lets the alias say what the history says.

    Whoever moves the alias looks again afterwards, so of several at once the last one has seen the newest history.
    """
    history = read(registry)
    while history.claims or history.lost or not _alias_stands(history):
        with mlflow_errors_as_one_line():
            if history.claims:
                # The lowest only: with its act the state is another, and the next look finds the others lost.
                _do_or_lose(registry.client, history.claims[0])
            else:
                for version in history.lost:
                    _delete_lost(registry.client, version)
                if history.champion and not _alias_stands(history):
                    with _done_by_another():
                        registry.client.set_registered_model_alias(
                            registry.names.name, CHAMPION, str(history.champion.number)
                        )
        history = read(registry)
    return history


def claim(registry: Registry, candidate: Version, state: str, tags: Mapping[str, str]) -> Version | None:
    """Copies a candidate that was judged against `state` into the production model, if no other act was first.

    Returns:
        The new champion, or nothing where another promotion or a rollback won.
    """
    own = {key: value for key, value in candidate.tags.items() if not key.startswith(OURS)}
    mine = _claim(registry, candidate, own | {**tags, STATE: state, CANDIDATE: str(candidate.number)})
    return next((v for v in settle(registry).promoted_versions if v.number == mine), None)


def roll_back(registry: Registry, history: Champions, tags: Mapping[str, str]) -> Rollback | None:
    """Takes the champion of `history` back, which puts the one before it into use, if no other act was first.

    Args:
        registry: Whose champion.
        history: What the rollback was decided on; it has a champion and one before.
        tags: Who, why and the run of the record, as `rollback.…`.

    Returns:
        What was done, or nothing where a promotion or another rollback won.

    Raises:
        UsageError: who and why are longer than the registry takes.
    """
    previous, champion = history.stack[-2:]
    about = {**tags, STATE: history.state, TAKES_BACK: str(champion.number), RETURNS: str(previous.number)}
    _check(_written(about, at=_made(champion)))
    mine = _claim(registry, champion, about)
    return next((each for each in settle(registry).rollbacks if each.number == mine), None)


def release(registry: Registry, facts: Mapping[str, str]) -> Rollback:
    """Lets automatic promotion go on after a rollback; returns the last one that held it.

    Raises:
        UsageError: nothing is on hold, or who and why are longer than the registry takes.
    """
    content = json.dumps(dict(facts), ensure_ascii=False)
    _check(content)
    history = settle(registry)
    held = history.hold
    if held is None:
        raise UsageError(
            f"automatic promotion of {registry.names.name} is not on hold: there is nothing to release"
        )
    with mlflow_errors_as_one_line():
        for each in history.rollbacks:
            if each.release is None:
                with _done_by_another():
                    registry.client.set_registered_model_tag(
                        registry.names.name, f"{RELEASE}{each.number}", content
                    )
    return held


def _claim(registry: Registry, model: Version, tags: Mapping[str, str]) -> int:
    with mlflow_errors_as_one_line():
        ensure_registered_model(registry.client, registry.names.name)
        created = registry.client.create_model_version(
            registry.names.name,
            model.uri,
            run_id=model.run_id,
            model_id=model.model_id,
            description=limits.cut(model.description, limits.DESCRIPTION),
            tags=dict(tags),
        )
    return int(created.version)


def _check(content: str) -> None:
    """Before the claim: of what is longer SQLite thinks nothing, and PostgreSQL says so when the claim is there."""
    most = limits.REGISTERED_MODEL_TAG
    if len(content) > most:
        raise UsageError(
            f"who and why take {len(content):,} characters in the registry, at most {most:,}: say it shorter"
        )


def _do_or_lose(client: MlflowClient, claimed: Version) -> None:
    """Does the act of a claim that won, or deletes the claim where the server will never take what the act writes."""
    try:
        _do(client, claimed)
    except MlflowException as error:
        if error.error_code not in NEVER:
            raise
        with _done_by_another():
            client.delete_model_version(claimed.name, str(claimed.number))


def _do(client: MlflowClient, claimed: Version) -> None:
    """Does the act of a claim that won: writes what everybody would write, so doing it twice changes nothing."""
    number = str(claimed.number)
    if TAKES_BACK not in claimed.tags:
        with _done_by_another():
            client.set_model_version_tag(claimed.name, number, PROMOTED_AT, _made(claimed))
        return
    # The model's tag first: that is the rollback; the version's tags only tell of it.
    content = _written(claimed.tags, at=_made(claimed))
    with _done_by_another():
        client.set_registered_model_tag(claimed.name, f"{ROLLBACK}{number}", content)
    with _done_by_another():  # for people who look at the version
        for key in (tag for tag in claimed.tags if tag.startswith(ROLLBACK)):
            client.set_model_version_tag(claimed.name, claimed.tags[TAKES_BACK], key, claimed.tags[key])


def _written(tags: Mapping[str, str], at: str) -> str:
    """A rollback as it is written down, from the tags of its claim."""
    about = {k.removeprefix(ROLLBACK): v for k, v in tags.items() if k.startswith(ROLLBACK)}
    return json.dumps({**about, "at": at}, ensure_ascii=False)


def _delete_lost(client: MlflowClient, version: Version) -> None:
    """Deletes a claim whose state is over, unless it was promoted before that.

    Its state is over since before this look, so what it is now it stays.
    """
    with _done_by_another():
        now = client.get_model_version(version.name, str(version.number))
        if PROMOTED_AT not in now.tags:
            client.delete_model_version(version.name, str(version.number))


@contextmanager
def _done_by_another() -> Iterator[None]:
    """What another process, or a person, deleted meanwhile needs nothing more, nor what another wrote at this moment.

    MLflow looks whether a tag is there and then inserts it: of two that write the same one, the database refuses one.
    """
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST" and not TWICE.search(str(error)):
            raise


def _alias_stands(history: Champions) -> bool:
    return history.champion is None or CHAMPION in history.champion.aliases


def _rollbacks(tags: Mapping[str, str]) -> tuple[Rollback, ...]:
    found = []
    for key, value in tags.items():
        number = key.removeprefix(ROLLBACK)
        if key.startswith(ROLLBACK) and number.isdecimal():
            facts = json.loads(value)
            release = tags.get(f"{RELEASE}{number}")
            released = json.loads(release) if release else None
            found.append(
                Rollback(
                    int(number), int(facts["version"]), int(facts["to"]), str(facts["at"]), facts, released
                )
            )
    return tuple(sorted(found, key=lambda each: each.number))


def _made(version: Version) -> str:
    """When the server created a version, as `2026-11-21T03:10:00.000Z`."""
    return time_of(version.created_ms)


def time_of(created_ms: int) -> str:
    """Milliseconds since 1970 as `2026-11-21T03:10:00.000Z`."""
    made = datetime.fromtimestamp(created_ms / 1000, UTC)
    return made.isoformat(timespec="milliseconds").replace("+00:00", "Z")
