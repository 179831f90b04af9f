"""Listings are put together by content, and what is lost is only what somebody dropped."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vggflow.versioning.three_way_merge import Listing, Plan, compare

LISTINGS = st.dictionaries(st.sampled_from("pqrs"), st.sampled_from("abcd"), max_size=4)
MAYBE = st.none() | LISTINGS


def _result(ours: Listing, plan: Plan) -> dict[str, str]:
    return {path: content for path, content in ours.items() if path not in plan.drop} | plan.bring


def test_an_older_folder_becomes_the_newer_one() -> None:
    before, now = {"p": "a", "q": "b"}, {"p": "a", "r": "b", "s": "c"}
    plan = compare(before, now, before, before)
    assert _result(before, plan) == now
    assert (plan.bring, plan.drop) == ({"r": "b", "s": "c"}, {"q"})
    assert not (plan.gone or plan.own or plan.moved or plan.clashes)


def test_additions_of_both_sides_stay() -> None:
    before = {"p": "a"}
    plan = compare(before | {"q": "b"}, before | {"r": "c"}, before, before)
    assert _result(before | {"q": "b"}, plan) == {"p": "a", "q": "b", "r": "c"}
    assert plan.own == {"q"}


def test_what_is_gone_is_told_and_a_move_is_not() -> None:
    before = {"p": "a", "q": "b", "r": "c"}
    plan = compare({"s": "a", "r": "d"}, before, before, before)
    assert plan.gone == {"q": "b", "r": "c"}
    assert plan.own == {"s"}
    assert plan.moved == {"p", "q", "r"}


def test_theirs_is_dropped_here_only_where_it_comes_from_what_was_here() -> None:
    assert compare({"p": "a"}, {}, {"p": "a"}, {"p": "a"}).drop == {"p"}
    assert compare({"p": "a"}, {}, {"p": "a"}, None).own == {"p"}
    assert compare({"p": "d"}, {}, {"p": "a"}, {"p": "a"}).own == {"p"}


def test_what_was_dropped_here_before_does_not_come_back_from_somebody_who_knew_it() -> None:
    assert compare({}, {"p": "a", "q": "b"}, {}, {"p": "a"}).bring == {"q": "b"}


def test_one_name_with_two_new_contents_clashes() -> None:
    assert compare({"p": "b"}, {"p": "c"}, {}, {}).clashes == {"p"}
    assert compare({"p": "b"}, {"p": "c"}, None, None).clashes == {"p"}
    assert compare({"p": "a"}, {"p": "c"}, {"p": "a"}, {"p": "a"}).bring == {"p": "c"}


def test_what_is_written_over_lies_at_its_other_place_first() -> None:
    base = {"p": "a", "q": "a"}
    plan = compare({"p": "a"}, {"p": "b", "q": "a"}, {}, base)
    assert list(plan.bring.items()) == [("q", "a"), ("p", "b")]
    assert compare({"p": "a", "q": "a"}, {"p": "b", "q": "a"}, {}, base).bring == {"p": "b"}


def test_of_bytes_that_were_moved_away_on_both_sides_one_place_stays() -> None:
    plan = compare({"q": "b"}, {"p": "b", "r": "b"}, {"p": "b", "r": "b"}, {"q": "b"})
    assert (plan.bring, plan.drop) == ({"p": "b"}, {"q"})
    again = compare({"q": "b", "p": "b"}, {"p": "b", "r": "b"}, {"p": "b", "r": "b"}, {"q": "b"})
    assert (again.bring, again.drop) == ({}, {"q"})


@settings(max_examples=500, deadline=None)
@given(LISTINGS, LISTINGS, MAYBE, MAYBE)
def test_no_content_is_lost_but_what_somebody_dropped(
    ours: Listing, theirs: Listing, seen: Listing | None, base: Listing | None
) -> None:
    plan = compare(ours, theirs, seen, base)
    if plan.clashes:
        return
    after, known = set(_result(ours, plan).values()), set((base or {}).values())
    for content in set(ours.values()) - after:
        assert any(there == content and theirs.get(path) != content for path, there in (base or {}).items())
    told = set(plan.gone.values())
    for content in set(theirs.values()) - after - told:
        assert content in known - set((seen or {}).values()) if seen is not None else False
    for content in set((seen or {}).values()) - set(ours.values()) - set(theirs.values()):
        assert content in told or content in known


@settings(max_examples=500, deadline=None)
@given(LISTINGS, LISTINGS, MAYBE, MAYBE, st.data())
def test_a_plan_that_was_cut_off_anywhere_goes_on_to_the_same_end(
    ours: Listing, theirs: Listing, seen: Listing | None, base: Listing | None, data: st.DataObject
) -> None:
    plan = compare(ours, theirs, seen, base)
    if plan.clashes:
        return
    steps = [*plan.bring.items(), *((path, None) for path in plan.drop)]
    partly = dict(ours)
    for path, content in steps[: data.draw(st.integers(0, len(steps)))]:
        if content is None:
            del partly[path]
        else:
            partly[path] = content
    again = compare(partly, theirs, seen, base)
    assert _result(partly, again) == _result(ours, plan)
    assert not again.clashes
    assert again.gone.items() <= plan.gone.items()
