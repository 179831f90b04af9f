"""Errors that a person can act on.

    VggflowError            1  something failed
    ├── UsageError          2  wrong usage
    │   ├── SettingsError   2  params.yaml is wrong
    │   ├── DataError       2  no data, or data of another shape than expected
    │   ├── WeightsError    2  start weights are missing or don't fit
    │   │   └── WeightsUnreachable  2  they can't be fetched
    │   └── ModelFileError  2  a model file is damaged, foreign or needs code (in models.files)
    ├── Interrupted         130  Ctrl-C
    ├── LogInRefused        1  a server does not take the log-in, or does not let it do this
    ├── InputsChanged       1  settings, data or packages changed while a stage ran
    ├── EvidenceLost        1  what a version rests on is damaged or gone from the artifact store
    ├── UnfitModel          1  a stored model is damaged, or needs code to load
    └── Refused             3  a gate said no
        ├── DataRefused     3  the data gate
        └── PromotionRefused  3  the promotion gate, asked by a person

Each message is one line: what was given, what was expected, what to do. The command line prints the message and
ends with the exit code; any other exception is a bug and keeps its traceback. `retry` tells whether the same may pass
when it is tried again with nothing changed, which is what a flow asks. Passwords in what is quoted are hidden.
"""

from vggflow.credentials import hide


class VggflowError(Exception):
    """Something failed that is not the caller's fault, such as a server that does not answer."""

    exit_code: int = 1
    retry: bool = True

    def __init__(self, message: object = "") -> None:
        super().__init__(hide(str(message)))


class Interrupted(VggflowError):
    """Somebody pressed Ctrl-C."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted; what was finished is kept, run the same command to go on")


class LogInRefused(VggflowError):
    """A server does not know who asks (401), or does not let them do this (403): somebody has to change that first."""

    retry = False


class UsageError(VggflowError, ValueError):
    """The caller asked for something that can't be done as asked."""

    exit_code = 2
    retry = False


class SettingsError(UsageError):
    """`params.yaml` has an unknown key, a wrong type or values that contradict each other."""


class DataError(UsageError):
    """There are no images, or they don't lie as expected."""


class WeightsError(UsageError):
    """Start weights are missing, damaged or of another shape than the network."""


class WeightsUnreachable(WeightsError):
    """Start weights can't be fetched: nothing answers where they are published."""

    retry = True


class InputsChanged(VggflowError):
    """What a stage depends on is another than when it started, so its result belongs to neither state."""


class EvidenceLost(VggflowError):
    """A file that a registered version rests on is damaged, or gone although the server answers."""

    retry = False


class UnfitModel(VggflowError):
    """A registered version's file is not what was registered, or can't be loaded without running code."""

    retry = False


class Refused(VggflowError):
    """A gate looked and said no."""

    exit_code = 3
    retry = False


class DataRefused(Refused):
    """The data gate found something critical."""


class PromotionRefused(Refused):
    """The promotion gate keeps the champion although a person asked to replace it.

    Attributes:
        evidence: Every rule and what it found, and where the rest is to be seen.
    """

    def __init__(self, message: str, evidence: str = "") -> None:
        super().__init__(message)
        self.evidence = evidence
