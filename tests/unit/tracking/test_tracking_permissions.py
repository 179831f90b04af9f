import sys

import pytest

from vggflow.errors import UsageError
from vggflow.tracking.users import permissions


def test_without_the_servers_packages_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlflow.server.auth.client", raising=False)
    monkeypatch.delitem(sys.modules, "mlflow.server.auth", raising=False)
    monkeypatch.setitem(sys.modules, "flask_wtf", None)
    with pytest.raises(UsageError, match=r"a package is missing: pip install 'vggflow\[server\]'"):
        permissions._auth_client("http://127.0.0.1:1")
