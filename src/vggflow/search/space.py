"""What a search may vary, and settings with other values in their places."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vggflow.errors import SettingsError
from vggflow.settings import Phase, Plain, Range, Settings

Choices = Range | tuple[Plain, ...]
Values = Mapping[str, Plain]

OF_MODEL = ("head", "dropout")
OF_TRAIN = ("batch_size", "class_weights")
OF_PHASE = ("learning_rate", "schedule", "optimizer", "epochs")
PHASES = "train.phases."
# Digits of a rate that anybody could tell apart.
DIGITS = 3
# Features of all places of the last convolutions, which the head `flatten` learns from, beyond this are left out
# of a space that nobody wrote down.
MOST_FLAT_BYTES = 10**9


@dataclass(frozen=True)
class Space:
    """What is varied in the first phase, and what in the later ones, by the settings' names.

    Values of the first phase are tried on cached features, those of the later ones by whole trainings.
    """

    first: Mapping[str, Choices]
    later: Mapping[str, Choices]


def space(settings: Settings, images: int) -> Space:
    """What `search.space` names, or what is worth trying with these phases and so many images.

    Raises:
        SettingsError: a name is none of a setting that can be varied, or a value is none that it can have.
    """
    given = settings.search.space
    wanted = default_space(settings, images) if given is None else given
    later = {f"{PHASES}{phase.name}." for phase in settings.train.phases[1:]}
    found = Space(
        {name: choices for name, choices in wanted.items() if not name.startswith(tuple(later))},
        {name: choices for name, choices in wanted.items() if name.startswith(tuple(later))},
    )
    for name, choices in wanted.items():
        _check(settings, name, choices)
    return found


def default_space(settings: Settings, images: int) -> dict[str, Choices]:
    """Rates two powers of ten wide or more, and the values between which nobody knows beforehand."""
    first, *later = settings.train.phases
    found: dict[str, Choices] = {
        f"{PHASES}{first.name}.learning_rate": Range(low=1e-4, high=0.1, scale="log"),
        f"{PHASES}{first.name}.schedule": ("constant", "cosine"),
        "model.dropout": (0.0, 0.2, 0.5),
        "train.batch_size": (16, 32, 64),
        "train.class_weights": ("none", "balanced"),
    }
    if _heads_are_alike(settings, images):
        found["model.head"] = ("pooling", "flatten")
    for phase in later:
        prefix = f"{PHASES}{phase.name}."
        found[f"{prefix}learning_rate"] = Range(low=1e-6, high=1e-3, scale="log")
        found[f"{prefix}epochs"] = Range(low=1, high=max(2, phase.epochs))
        found[f"{prefix}freeze_through"] = tuple(
            dict.fromkeys(("block4_pool", "block3_pool", phase.freeze_through))
        )
    return found


def _heads_are_alike(settings: Settings, images: int) -> bool:
    """Whether either head learns from the same convolutions, and the larger features are no burden."""
    places = (settings.model.image_size_px // 32) ** 2
    flat_bytes = images * places * 512 * settings.model.width * 4
    # `.keras` files bring a head of their own.
    convolutions = all(phase.freeze_through.startswith("block") for phase in settings.train.phases[:1])
    return (
        settings.model.head in ("pooling", "flatten")
        and convolutions
        and flat_bytes <= MOST_FLAT_BYTES
        and not settings.model.weights.endswith(".keras")
    )


def present(settings: Settings, names: Mapping[str, Choices]) -> dict[str, Plain]:
    """The values that these settings have now."""
    return {name: value(settings, name) for name in names}


def with_values(settings: Settings, values: Values) -> Settings:
    """The same settings with these values in their places; rates as anybody would write them.

    Raises:
        SettingsError: they don't fit each other.
    """
    content = settings.model_dump(by_alias=True)
    phases = {phase["name"]: phase for phase in content["train"]["phases"]}
    for name, value in values.items():
        section, key = _place(name)
        target = phases[section] if name.startswith(PHASES) else content[section]
        target[key] = rounded(value)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingsError(f"search.space: {_listed(values)}: {said}") from error


def rounded(value: Plain) -> Plain:
    """A rate with as many digits as it has meaning."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _place(name: str) -> tuple[str, str]:
    """The phase or the section that holds the setting, and its key there."""
    if name.startswith(PHASES):
        phase, _, key = name.removeprefix(PHASES).partition(".")
        return phase, key
    section, _, key = name.partition(".")
    return section, key


def value(settings: Settings, name: str) -> Any:
    """What a setting is now, by its name such as `train.phases.head.epochs`."""
    section, key = _place(name)
    if name.startswith(PHASES):
        return getattr(_phase(settings, section), key)
    return getattr(getattr(settings, section), key)


def _phase(settings: Settings, name: str) -> Phase:
    return next(phase for phase in settings.train.phases if phase.name == name)


def _check(settings: Settings, name: str, choices: Choices) -> None:
    known = _known(settings)
    if name not in known:
        raise SettingsError(f"search.space: `{name}` can't be varied; expected some of: {', '.join(known)}")
    if isinstance(choices, Range):
        now = value(settings, name)
        if isinstance(now, str):
            raise SettingsError(f"search.space: `{name}` has no range: list its values, such as [{now}]")
        ends: tuple[Plain, ...] = (choices.low, choices.high)
        if isinstance(now, int):
            if not (choices.low.is_integer() and choices.high.is_integer()):
                raise SettingsError(
                    f"search.space: `{name}` has whole numbers, got {choices.low:g} to {choices.high:g}"
                )
            ends = (int(choices.low), int(choices.high))
    else:
        ends = choices
    for end in ends:
        with_values(settings, {name: end})


def _known(settings: Settings) -> tuple[str, ...]:
    first, *later = settings.train.phases
    return (
        *(f"model.{key}" for key in OF_MODEL),
        *(f"train.{key}" for key in OF_TRAIN),
        *(f"{PHASES}{first.name}.{key}" for key in OF_PHASE),
        # What the first phase freezes decides what its features are, of which there is one kind.
        *(f"{PHASES}{phase.name}.{key}" for phase in later for key in (*OF_PHASE, "freeze_through")),
    )


def _listed(values: Values) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
