"""What the file of users may look like."""

from pathlib import Path

import pytest

from vggflow.errors import UsageError
from vggflow.tracking.users.__main__ import _wanted


def test_users_are_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_text('{"users": {"ann": {"role": "trainer"}}}')
    assert _wanted(path) == {"ann": {"role": "trainer"}}


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"users": ["ann"]}', '{"users": {"ann": "x"}}'])
def test_a_file_that_names_no_users_is_told_in_one_line_with_an_example(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "users.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="expected JSON such as") as error:
        _wanted(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
