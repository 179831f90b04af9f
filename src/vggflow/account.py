"""Who runs this, as the machine knows them; in containers a number without a name."""

import getpass
import os


def user_name() -> str:
    """The name of the account, or `uid-1234` where that has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # neither in the environment nor among the machine's users
        return f"uid-{os.getuid()}"
