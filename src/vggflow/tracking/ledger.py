"""The history of champions: who is in use, what is promoted next, what is rolled back.

The versions of the production model *are* the history. Version numbers are unique in the registry's database and the
only atomic counter there is, so they decide between promoters that run at once:

1. A promoter judges against a *state*: the champion's number and how many champions were rolled back so far. No state
   comes twice.
2. It *claims*: it creates a version that carries this state. The lowest version of a state wins, others are deleted.
3. The winner is *crowned* by a tag, then the alias moves.

Each step can be repeated by anybody, so whoever comes next completes what a killed promoter began. Rolling back
*withdraws* the champion by a tag; the champion is the newest crowned version that is not withdrawn. A withdrawn
version *holds* automatic promotion until it is released, by a tag too, so a rollback and its hold are one write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vggflow.errors import UsageError
from vggflow.settings import RegistrySettings
from vggflow.tracking.connection import answering
from vggflow.tracking.registry import CHAMPION, Version, ensure_registered_model, versions

STATE = "promotion.state"
CROWNED = "promotion.crowned"
WITHDRAWN = "promotion.withdrawn"
RELEASED = "promotion.released"
CANDIDATE = "promotion.candidate"


@dataclass(frozen=True)
class Reign:
    """A time in which a version was champion: from, until (None: still), both UTC as `2026-11-21T03:10:00.000Z`."""

    version: Version
    since: str
    until: str | None


@dataclass(frozen=True)
class Ledger:
    """What the production model's versions say."""

    versions: tuple[Version, ...]

    @property
    def reigned(self) -> tuple[Version, ...]:
        """Every version that was or is champion, oldest first."""
        return tuple(version for version in self.versions if CROWNED in version.tags)

    @property
    def stack(self) -> tuple[Version, ...]:
        """The champions that were not rolled back, oldest first: the last is in use."""
        return tuple(version for version in self.reigned if WITHDRAWN not in version.tags)

    @property
    def champion(self) -> Version | None:
        """The version in use."""
        return self.stack[-1] if self.stack else None

    @property
    def withdrawn(self) -> Version | None:
        """The champion that was rolled back last."""
        back = [version for version in self.reigned if WITHDRAWN in version.tags]
        return max(back, key=lambda version: version.tags[WITHDRAWN], default=None)

    @property
    def hold(self) -> Version | None:
        """The version whose rollback holds automatic promotion, if nobody has released it."""
        last = self.withdrawn
        return last if last and RELEASED not in last.tags else None

    @property
    def reigns(self) -> tuple[Reign, ...]:
        """Who was champion from when until when, oldest first; a rollback begins a new reign of an old version."""
        events = [(version.tags[CROWNED], version, True) for version in self.reigned]
        events += [(v.tags[WITHDRAWN], v, False) for v in self.reigned if WITHDRAWN in v.tags]
        events.sort(key=lambda event: (event[0], event[1].number))
        stack: list[Version] = []
        changes: list[tuple[str, Version | None]] = []
        for when, version, crowned in events:
            others = [v for v in stack if v.number != version.number]
            stack = sorted([*others, version] if crowned else others, key=lambda v: v.number)
            changes.append((when, stack[-1] if stack else None))
        ends = [when for when, _ in changes[1:]] + [None]
        return tuple(
            Reign(version, since, until)
            for (since, version), until in zip(changes, ends, strict=True)
            if version is not None
        )

    @property
    def state(self) -> str:
        """What a promoter judges against; it never comes back once it has changed."""
        champion = self.champion.number if self.champion else 0
        return f"{champion}.{len(self.reigned) - len(self.stack)}"

    @property
    def claims(self) -> tuple[Version, ...]:
        """Versions that a promoter created and nobody has crowned yet, for the present state, lowest first."""
        return tuple(v for v in self.versions if CROWNED not in v.tags and v.tags.get(STATE) == self.state)

    @property
    def lost(self) -> tuple[Version, ...]:
        """Claims for a state that is over. A version that somebody made by hand has no state and is left alone."""
        claims = (v for v in self.versions if CROWNED not in v.tags and STATE in v.tags)
        return tuple(version for version in claims if version.tags[STATE] != self.state)


def read(client: MlflowClient, registry: RegistrySettings) -> Ledger:
    """The ledger as the server has it now."""
    return Ledger(tuple(versions(client, registry.name)))


def settle(client: MlflowClient, registry: RegistrySettings) -> Ledger:
    """Completes what a killed promoter or rollback began, and lets the alias say what the ledger says.

    Whoever moves the alias looks again afterwards, so of several at once the last one has seen the newest ledger.
    """
    ledger = read(client, registry)
    while ledger.claims or ledger.lost or not _alias_stands(ledger):
        with answering():
            if ledger.claims:
                _crown(client, ledger.claims[0])
            for version in ledger.lost:
                _delete(client, version)
            if ledger.champion and not _alias_stands(ledger):
                client.set_registered_model_alias(registry.name, CHAMPION, str(ledger.champion.number))
        ledger = read(client, registry)
    return ledger


def claim(
    client: MlflowClient, registry: RegistrySettings, candidate: Version, state: str, tags: Mapping[str, str]
) -> Version | None:
    """Copies a candidate that was judged against `state` into the production model, if no other promoter was first.

    Returns:
        The new champion, or nothing where another promoter won.
    """
    with answering():
        ensure_registered_model(client, registry.name)
        created = client.create_model_version(
            registry.name,
            candidate.uri,
            run_id=candidate.run_id,
            model_id=candidate.model_id,
            description=candidate.description,
            tags={**candidate.tags, **tags, STATE: state, CANDIDATE: str(candidate.number)},
        )
    mine = int(created.version)
    ledger = settle(client, registry)
    return next((version for version in ledger.reigned if version.number == mine), None)


def withdraw(
    client: MlflowClient, registry: RegistrySettings, champion: Version, tags: Mapping[str, str]
) -> Ledger:
    """Takes the champion back, which puts the one before it into use; returns the ledger as it is then."""
    with answering():
        for key, value in {
            **tags,
            WITHDRAWN: _now(),
        }.items():  # the last one is the act, the others explain it
            client.set_model_version_tag(registry.name, str(champion.number), key, value)
    return settle(client, registry)


def release(client: MlflowClient, registry: RegistrySettings, tags: Mapping[str, str]) -> Version:
    """Lets automatic promotion go on after a rollback; returns the version whose rollback held it.

    Raises:
        UsageError: nothing is on hold.
    """
    ledger = settle(client, registry)
    held = ledger.hold
    if held is None:
        raise UsageError(
            f"automatic promotion of {registry.name} is not on hold: there is nothing to release"
        )
    with answering():
        for version in ledger.reigned:
            if WITHDRAWN in version.tags and RELEASED not in version.tags:
                for key, value in {**tags, RELEASED: _now()}.items():
                    client.set_model_version_tag(registry.name, str(version.number), key, value)
    return held


def _alias_stands(ledger: Ledger) -> bool:
    return ledger.champion is None or CHAMPION in ledger.champion.aliases


def _crown(client: MlflowClient, version: Version) -> None:
    client.set_model_version_tag(version.name, str(version.number), CROWNED, _now())


def _delete(client: MlflowClient, version: Version) -> None:
    """Deletes a claim that lost, unless another promoter just did."""
    try:
        client.delete_model_version(version.name, str(version.number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
