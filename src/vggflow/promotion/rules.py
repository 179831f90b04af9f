"""Should the challenger become champion? Numbers in, decision and reasons out, and nothing else."""

from collections.abc import Iterator

from vggflow.promotion import rules_alone, rules_compared
from vggflow.promotion.decision import Check, Decision, Number
from vggflow.promotion.evidence import Evidence, Golden
from vggflow.settings import PromotionSettings

# Counts up whenever a rule changes, so that no question is answered by a decision under other rules.
EDITION = 2
# Another machine's matrix multiplication differs in the last digits of float32; another model differs in the first.
GOLDEN_TOLERANCE = 1e-3
# Of an evaluation that may have run on a GPU in TF32: 10 bits of fraction moved probabilities by up to 2e-3 in VGG16,
# and by up to 6e-3 in small steep networks.
GOLDEN_TOLERANCE_TF32 = 1e-2
AUTHENTICATED = "authenticated"
# Whoever overrides the gate answers for a worse model, not for another person's consent or for another file.
NEVER_OVERRIDDEN = frozenset({"two_person", "golden_images"})

# Rules whose refusal may be the fault of the machine that judged: another package, device or image of it.
OF_THE_MACHINE = frozenset({"golden_images"})


def lasts(decision: Decision) -> bool:
    """Whether the same question has the same answer later: not where a mended machine may answer otherwise."""
    return not any(check.rule in OF_THE_MACHINE for check in decision.refusals)


def overridable(decision: Decision) -> bool:
    """Whether a person may promote against this decision, by name and with a reason."""
    return not any(check.rule in NEVER_OVERRIDDEN for check in decision.refusals)


def decide(evidence: Evidence, settings: PromotionSettings) -> Decision:
    """Asks every rule; the challenger is promoted if none of them refuses.

    Conditions and floors hold for everyone, and so does that a constant answer is beaten. With a champion, both
    models must have answered the same test images; the rules on classes and the overall rule (`better` or
    `not_worse`) then look at the joint counts.
    """
    checks = [*_conditions(evidence, settings)]
    # None where no image counts, which `test_images` refuses already.
    if evidence.constant is not None:
        checks.append(rules_alone.majority(evidence.constant))
    checks += [rules_alone.linear_probe(evidence, settings.linear_probe)]
    checks += rules_alone.floors(evidence.challenger, settings)
    if evidence.champion is not None:
        checks += rules_compared.compared(evidence, evidence.champion, settings)
    return Decision(tuple(checks), evidence, settings.model_dump())


def _conditions(evidence: Evidence, settings: PromotionSettings) -> Iterator[Check]:
    yield rules_alone.test_images(evidence, settings.min_test_images)
    if evidence.golden is not None:
        yield _golden_images(evidence.golden)
    if not settings.allow_dirty_tree:
        # Not `not dirty_tree`: None means that nobody knows, which is not clean.
        clean = evidence.dirty_tree is False
        says = f"the challenger comes {'from' if clean else 'not from'} committed code and settings"
        if evidence.dirty_tree is None:
            says = "nobody knows whether the challenger comes from committed code and settings"
        yield Check("clean_tree", clean, says, {"dirty_tree": evidence.dirty_tree})
    if evidence.champion_unfit is not None:
        says = f"the champion can't be compared with: {evidence.champion_unfit}"
        yield Check("champion_fit", False, says)
    if settings.two_person:
        yield _two_person(evidence)


def _golden_images(golden: Golden) -> Check:
    same = golden.images > 0 and golden.difference <= golden.tolerance
    says = f"{golden.images} images answered as in the evaluation, largest difference {golden.difference:.1e}"
    if not golden.images:
        says = "none of the images of its evaluation is here to ask it again; evaluate it on this data"
    elif not same:
        says = f"the model answers otherwise than in its evaluation: probabilities differ by {golden.difference:.3g}"
    numbers: dict[str, Number] = {
        "images": golden.images,
        "difference": golden.difference,
        "tolerance": golden.tolerance,
    }
    return Check("golden_images", same, says, numbers)


def _two_person(evidence: Evidence) -> Check:
    """Who acts must not be who trained; where somebody else will act, only that has to be possible.

    A name that anybody can claim holds nothing: both have to be users of the tracking server.
    """
    trainer, promoter = evidence.trained_by, evidence.asked_by
    numbers: dict[str, Number] = {"trained_by": trainer, "asked_by": promoter, "asked_as": evidence.asked_as}
    if evidence.asked_as != AUTHENTICATED:
        says = f"names are only claimed here, so two persons can't be told apart; {_USERS}"
        return Check("two_person", False, says, numbers)
    # None: versions of before carry the name alone, and are compared by it.
    if evidence.trained_as not in (AUTHENTICATED, None):
        says = f"trained by {trainer} where names are only claimed, which may be anybody; train it again here"
        return Check("two_person", False, says, numbers)
    # Whose account runs the flow says nothing: who acts on its answer is judged when they promote.
    if evidence.for_another and trainer is not None:
        says = f"trained by {trainer}: another person has to promote"
        return Check("two_person", True, says, numbers)
    # `trainer != promoter` alone would let an unknown trainer pass.
    known = trainer is not None and promoter is not None
    says = f"trained by {trainer or 'nobody known'}, promoted by {promoter or 'nobody known'}"
    return Check("two_person", known and trainer != promoter, f"{says}; these must be two persons", numbers)


_USERS = (
    "`vggflow up`, or MLflow with `--app-name basic-auth`, knows users; without them set two_person: false and "
    "approval: required"
)
