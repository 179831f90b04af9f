"""What a run shows of an audit, whatever classes are called."""

from types import SimpleNamespace

from flows import run_page
from vggflow.audit.suspects import Pair


def test_names_of_classes_break_no_table() -> None:
    pairs = (Pair("a|b\n`c`", "<script>[x](y)*", 3, 1), Pair("ünï 猫", "dogs", 2, 0))
    head, line, *rows = run_page.confused(SimpleNamespace(pairs=pairs)).splitlines()  # type: ignore[arg-type]
    assert head.count("|") == line.count("|") == 5
    assert [row.count("|") for row in rows] == [5, 5]
    assert "<" not in rows[0] and "`" not in rows[0] and "[" not in rows[0]
    assert rows[1] == "| ünï 猫 | dogs | 2 | 0 |"


def test_only_the_first_pairs_are_shown_and_none_need_no_table() -> None:
    pairs = tuple(Pair(f"c{number}", "d", 1_000 - number, 0) for number in range(1_000))
    assert len(run_page.confused(SimpleNamespace(pairs=pairs)).splitlines()) == 12  # type: ignore[arg-type]
    assert run_page.confused(SimpleNamespace(pairs=())) == ""  # type: ignore[arg-type]
