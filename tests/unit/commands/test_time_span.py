"""How far back `vggflow drift` looks."""

from datetime import timedelta

import pytest

from vggflow.commands.drift import duration
from vggflow.errors import UsageError


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("7d", timedelta(days=7)),
        ("12h", timedelta(hours=12)),
        ("90min", timedelta(minutes=90)),
        ("1.5d", timedelta(hours=36)),
    ],
)
def test_a_time_span(text: str, span: timedelta) -> None:
    assert duration(text) == span


@pytest.mark.parametrize("text", ["seven days", "0d", "-1d", "", "nan", "7 years", "1000000000d"])
def test_what_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="no time span: expected one such as 7d, 12h or 90min"):
        duration(text)
