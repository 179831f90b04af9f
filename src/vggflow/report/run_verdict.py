"""What to think of two trainings, in one plain sentence: which is better, whether that may be chance, what differs."""

from vggflow.report.run_differences import SOURCE, Differences, Part
from vggflow.report.run_outcomes import Interval, Measure, Outcome, Paired, Value, measures


def verdict(made: Differences, first: Outcome, second: Outcome, paired: Paired | str) -> str:
    """One sentence: what came of B compared with A, then what they differ in."""
    return f"{_came_of_it(first, second, paired)}; {_made_from(made)}"


def _came_of_it(first: Outcome, second: Outcome, paired: Paired | str) -> str:
    if isinstance(paired, str):
        return _unpaired(first, second)
    where = f"on {_images(paired.images)} in common"
    if paired.only_first == paired.only_second == 0:
        return f"A and B are right on the same of {_images(paired.images)} in common"
    found = f"95 % {_between(paired.interval)}, p {p_value(paired.p)}, {where}"
    if paired.gain == 0:
        return f"A and B are equally accurate ({found})"
    better = "better" if paired.gain > 0 else "worse"
    if paired.is_significant:
        return f"B is {better} by {_points(paired.gain)} ({found})"
    return f"B is {better} by {_points(paired.gain)}, which may be chance ({found})"


def _unpaired(first: Outcome, second: Outcome) -> str:
    rows = [row for row in measures(first, second) if row.first and row.second]
    row = next((each for each in rows if each.name == "accuracy on test"), None) or next(iter(rows), None)
    if row is None:
        return "A and B have no measure in common"
    if not row.change:
        return f"A and B have the same {row.name}, {written(row.first)}"
    better = "better" if row.change > 0 else "worse"
    values = f"{written(row.first)} → {written(row.second)}"
    return f"B is {better} by {_points(row.change)} in {row.name}, {_certainty(row)} ({values})"


def _certainty(row: Measure) -> str:
    """Whether the intervals overlap; without them, and on other images, nobody can tell more."""
    if not (row.first and row.second and row.first.interval and row.second.interval):
        return "and nobody can tell whether that is chance"
    one, other = row.first.interval, row.second.interval
    is_apart = one[1] < other[0] or other[1] < one[0]
    return "more than chance explains" if is_apart else "which may be chance"


def _made_from(made: Differences) -> str:
    decisive = [each for part in made.parts for each in part.decisive]
    unknown = any(part.unrecorded for part in made.parts)
    if not unknown and not any(part.differs for part in made.parts):
        same = f"settings, data and code are the same{_but_for_the_commit(made.code)}"
        return same if made.same_inputs is not False else f"{same}, yet something that is not listed differs"
    # A hash says nothing to people.
    if len(decisive) == 1 and not unknown and not made.data.differs and decisive[0].name != SOURCE:
        only = decisive[0]
        return f"only {only.name} differs ({only.first or '–'} → {only.second or '–'})"
    return ", ".join(_said(made))


def _said(made: Differences) -> list[str]:
    same = [part.name for part in made.parts if not part.differs and not part.unrecorded]
    other = [part.name for part in made.parts if part.differs]
    said = [f"{_listed(same)} {_verb(same, 'is', 'are')} the same"] if same else []
    said += [f"{_listed(other)} {_verb(other, 'differs', 'differ')}"] if other else []
    return said + [
        f"{part.name} {_verb([part.name], 'is', 'are')} not fully recorded of {' and '.join(part.unrecorded)}"
        for part in made.parts
        if part.unrecorded and not part.differs
    ]


def _but_for_the_commit(code: Part) -> str:
    return " but for the commit" if code.differences else ""


def _listed(names: list[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _verb(names: list[str], one: str, many: str) -> str:
    return many if len(names) > 1 or names == ["settings"] else one


def written(value: Value | None, *, is_share: bool = True) -> str:
    """A measure with its interval: `84.0 % (79.0–88.5)`; a dash where there is none."""
    if value is None:
        return "–"
    factor, digits, unit = (100, 1, " %") if is_share else (1, 3, "")
    between = value.interval and [f"{factor * each:.{digits}f}" for each in value.interval]
    return f"{factor * value.value:.{digits}f}{unit}" + (f" ({between[0]}–{between[1]})" if between else "")


def p_value(p: float) -> str:
    """As it goes on after `p`: `= 0.004`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def signed_points(gain: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * gain:+.1f}".replace("-", "−")


def _between(interval: Interval) -> str:
    return f"{signed_points(interval[0])} to {signed_points(interval[1])}" if interval else "unknown"


def _points(gain: float) -> str:
    # A hundredth where a tenth would say 0.0.
    points = abs(100 * gain)
    return f"{points:.1f} points" if points >= 0.05 else f"{points:.2g} points"


def _images(count: int) -> str:
    return f"{count:,} image{'s' if count != 1 else ''}"
