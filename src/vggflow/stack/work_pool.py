"""The work pool that the stack's worker serves, over Prefect's REST API: vggflow itself imports no Prefect."""

import base64
import json
import urllib.error
import urllib.request
from datetime import datetime
from importlib.resources import files
from typing import Any

from vggflow.errors import VggflowError

POOL = "vggflow"
QUEUES = ("cpu", "gpu")
CONFLICT = 409


class PrefectApi:
    """Prefect's API with the credential that all share."""

    def __init__(self, url: str, login: str) -> None:
        self._url = url
        self._header = "Basic " + base64.b64encode(login.encode()).decode()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Sends a request and returns the answer's JSON.

        Raises:
            urllib.error.HTTPError: the server refuses.
            OSError: the server does not answer.
        """
        request = urllib.request.Request(  # noqa: S310
            f"{self._url}{path}",
            method=method,
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": self._header, "Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")


def ensure(api: PrefectApi) -> None:
    """Makes the pool and its queues where they are missing; what an operator changed since is left alone.

    Raises:
        VggflowError: Prefect refuses.
    """
    template = json.loads((files("vggflow") / "template" / "pools" / f"{POOL}.json").read_text("utf-8"))
    pool = {"name": POOL, "type": "process", "base_job_template": template}
    try:
        _make(api, "/work_pools/", pool)
        for name in QUEUES:
            _make(api, f"/work_pools/{POOL}/queues", {"name": name})
    except urllib.error.HTTPError as error:
        said = " ".join(error.read().decode(errors="replace").split())
        raise VggflowError(
            f"Prefect refused the work pool {POOL}: HTTP {error.code}, {said[:200]}"
        ) from error


def has_worker(api: PrefectApi, since: datetime) -> bool:
    """Whether a worker of the pool reported after a moment; Prefect takes minutes to miss one that is gone."""
    try:
        workers = api.ask("POST", f"/work_pools/{POOL}/workers/filter", {})
    except OSError:
        return False
    return any(datetime.fromisoformat(worker["last_heartbeat_time"]) >= since for worker in workers)


def _make(api: PrefectApi, path: str, content: dict[str, Any]) -> None:
    try:
        api.ask("POST", path, content)
    except urllib.error.HTTPError as error:
        if error.code != CONFLICT:
            raise
