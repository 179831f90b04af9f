"""Who asks: the user that MLflow knows, else the name that somebody claims, else whoever runs this."""

from dataclasses import dataclass
from typing import Literal

from mlflow import MlflowClient

from vggflow.errors import UsageError
from vggflow.tracking.registry.lineage import person
from vggflow.tracking.users import access


@dataclass(frozen=True)
class Person:
    """A name for the record, and how it is known.

    Attributes:
        name: Such as `ann`, or `ann@laptop`.
        kind: `authenticated` by the tracking server, `claimed` with `--by`, or `local`: the account that runs this.
    """

    name: str
    kind: Literal["authenticated", "claimed", "local"]


def asking(client: MlflowClient, by: str | None = None) -> Person:
    """Who asks for something.

    Args:
        client: The tracking server, which may know its users.
        by: The name that was given with `--by`.

    Raises:
        UsageError: the server knows who this is, and `by` is another name.
    """
    user = access.current_user(client)
    if user is None:
        return Person(by, "claimed") if by else Person(person(), "local")
    if by not in (None, user.name):
        raise UsageError(
            f"--by {by}: you are logged in to MLflow as {user.name}, and that is recorded; leave --by away"
        )
    return Person(user.name, "authenticated")
