"""What a decision rests on: plain numbers about a challenger, a champion, and both on the same images."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Joint:
    """How many images two models got right and wrong: 2 × 2 counts that add up to the images compared."""

    both_right: int = 0
    only_challenger: int = 0
    only_champion: int = 0
    neither: int = 0

    @property
    def images(self) -> int:
        """The number of images compared."""
        return self.both_right + self.only_challenger + self.only_champion + self.neither

    @property
    def gain(self) -> float:
        """The challenger's accuracy less the champion's, -1 to 1; 0.0 without images."""
        return (self.only_challenger - self.only_champion) / self.images if self.images else 0.0

    @staticmethod
    def total(parts: Iterable["Joint"]) -> "Joint":
        """The counts of several groups of images together."""
        rows = [(part.both_right, part.only_challenger, part.only_champion, part.neither) for part in parts]
        return Joint(*(sum(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Scores:
    """One model on the test images that count.

    Attributes:
        class_names: The classes in the order of the model's probabilities.
        test_digest: A digest of the images that were scored and of their true classes.
        images: How many test images were counted.
        accuracy: 0 to 1.
        recall: Per class, 0 to 1; a class without test images is absent.
        calibration_error: The expected calibration error, 0 to 1.
        megabytes: The size of the model file, in units of 1,000,000 bytes.
    """

    class_names: tuple[str, ...]
    test_digest: str
    images: int
    accuracy: float
    recall: Mapping[str, float]
    calibration_error: float
    megabytes: float


@dataclass(frozen=True)
class Golden:
    """The challenger's answers of now beside those of its evaluation, on the images that both were asked about.

    Attributes:
        images: How many images were asked about then and now.
        difference: The largest difference of a probability, 0 to 1.
        tolerance: The largest difference by which the arithmetic of the two machines explains it.
    """

    images: int
    difference: float
    # The default is for records of before, which did not name it.
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Constant:
    """The challenger beside the best of all constant answers: the class that most of the test images have.

    Attributes:
        class_name: What that answer is.
        images: How many images were counted.
        only_challenger: Images that the challenger alone got right, all of other classes.
        only_constant: Images of that class that the challenger got wrong.
    """

    class_name: str
    images: int
    only_challenger: int
    only_constant: int


@dataclass(frozen=True)
class Probe:
    """What training was worth: both accuracies, 0 to 1, on the images of valid, as training measured them.

    Attributes:
        accuracy: Of the model that training left.
        without_training: Of a linear classifier on what the frozen layers give (`linear_probe_val_accuracy`).
    """

    accuracy: float
    without_training: float


@dataclass(frozen=True)
class Evidence:
    """All that `promotion.decide` looks at.

    Attributes:
        challenger: The model that wants to be used.
        champion: The model in use; None before the first promotion.
        manifest_digest: The manifest that the images were taken from.
        per_class: The joint counts per true class, over the classes that both models know.
        gain_interval: The 95 % bootstrap interval of the gain; reported, not decided on.
        images_left_out: Test images not counted, as a model has seen them, or nearly, in training.
        earlier_decisions: How many decisions this test set has served before; reported.
        accept_class_change: A person accepts that the classes differ from the champion's.
        dirty_tree: The challenger comes from uncommitted code or settings; None if unknown.
        trained_by: Who trained the challenger, as the tracking server knows them.
        trained_as: How that name is known: `authenticated`, `claimed` or `local`; None where nobody wrote it down.
        asked_by: Who wants to promote it.
        asked_as: How that name is known, likewise.
        for_another: Who asks will not act: a flow or a request, which a person answers. Then `two_person` only
            says that this must be another than the trainer.
        champion_unfit: Why the champion could not be scored, where somebody asks to replace it all the same.
        golden: How the challenger answers compared with its evaluation; None where nobody looked.
        constant: The challenger beside a constant answer; None where nobody counted, as in older records.
        probe: The challenger beside its frozen layers alone; None where training did not measure that.
    """

    challenger: Scores
    champion: Scores | None = None
    manifest_digest: str = ""
    per_class: Mapping[str, Joint] = field(default_factory=dict)
    gain_interval: tuple[float, float] | None = None
    images_left_out: int = 0
    earlier_decisions: int | None = None
    accept_class_change: bool = False
    dirty_tree: bool | None = None
    trained_by: str | None = None
    asked_by: str | None = None
    for_another: bool = False
    champion_unfit: str | None = None
    golden: Golden | None = None
    trained_as: str | None = None
    asked_as: str | None = None
    constant: Constant | None = None
    probe: Probe | None = None

    @property
    def joint(self) -> Joint:
        """The joint counts over all classes that both models know."""
        return Joint.total(self.per_class.values()) if self.per_class else Joint()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Evidence":
        """What `to_dict` gave, also after a way through JSON."""
        # JSON has lists and dictionaries only; a record that comes back equals the one that was written.
        parts = dict(content)
        interval, golden = parts["gain_interval"], parts["golden"]
        parts["challenger"] = _scores(parts["challenger"])
        parts["champion"] = _scores(parts["champion"]) if parts["champion"] else None
        parts["per_class"] = {name: Joint(**counts) for name, counts in parts["per_class"].items()}
        parts["gain_interval"] = (interval[0], interval[1]) if interval else None
        parts["golden"] = Golden(**golden) if golden else None
        for name, kind in (("constant", Constant), ("probe", Probe)):  # records of before have neither
            parts[name] = kind(**parts[name]) if parts.get(name) else None
        return cls(**parts)


def _scores(content: Mapping[str, Any]) -> Scores:
    return Scores(**{**content, "class_names": tuple(content["class_names"])})
