"""`vggflow doctor` names what will fail, and what to do about it."""

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from tiny import write_params

from vggflow import artifacts, files
from vggflow.commands import doctor
from vggflow.processes import nvidia_smi
from vggflow.stack import log_ins
from vggflow.stack.choices import CHOICES, Choices, open_place
from vggflow.workspace import find


def unwell(workspace: Path) -> dict[str, str]:
    """The checks that are not ok, and how they are."""
    return {f.check: f.health for f in doctor.examine(find(workspace)) if f.health != "ok"}


def test_a_fresh_workspace_lacks_nothing_but_a_git_remote(workspace: Path, vggflow: Callable) -> None:
    # A test may run on a full disk, or where others made DVC's shared cache: that is not this workspace.
    found = set(unwell(workspace)) - {"disk", "DVC's site cache"}
    assert found == {"git remote"}
    assert vggflow("-C", workspace, "doctor").code == 0


def test_a_package_that_breaks_prefect_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"fastapi", "sqlalchemy"} & {finding.check for finding in doctor.examine(None)}
    monkeypatch.setitem(doctor.BREAK_PREFECT, "sqlalchemy", ((1, 4), "no schedule fires"))
    found = {finding.check: finding for finding in doctor.examine(None)}
    assert found["sqlalchemy"].health == "wrong"
    assert "pip install 'sqlalchemy<1.4'" in found["sqlalchemy"].advice


def test_wrong_settings_are_named(workspace: Path, vggflow: Callable) -> None:
    write_params(workspace, train={"learning_rte": 1})
    assert unwell(workspace)["params.yaml"] == "wrong"
    ran = vggflow("-C", workspace, "doctor")
    assert ran.code == 1
    assert "learning_rte" in ran.out


def test_servers_that_do_not_answer_are_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = unwell(workspace)
    assert (found["MLflow"], found["MLflow user"], found["Prefect"]) == ("wrong", "wrong", "wrong")


@pytest.mark.parametrize(
    ("does", "health", "words"),
    [
        ("sleep 60", "wrong", "says nothing for 0.5 s"),
        ("echo no devices were found; exit 6", "wrong", "nvidia-smi: no devices were found"),
        ("echo 'NVIDIA H100, 81000 MiB'", None, "NVIDIA H100, 81000 MiB"),
    ],
)
def test_what_the_program_of_a_gpu_says_is_told_and_one_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, health: str | None, words: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(nvidia_smi, "SECONDS", 0.5)
    (found,) = (finding for finding in doctor.examine(None) if finding.check == "GPU")
    assert words in found.found
    assert found.health == (health or found.health) and (health is not None or found.health != "wrong")


@pytest.mark.parametrize(("backend", "extra"), [("tensorflow", "vggflow[gpu]"), ("jax", "vggflow[gpu-jax]")])
def test_the_extra_that_a_gpu_lacks_is_that_of_the_backend(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, extra: str
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA H100, 81000 MiB'\n")
    (programs / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    params = workspace / "params.yaml"
    content = yaml.safe_load(params.read_text())
    content["train"]["backend"] = backend
    params.write_text(yaml.safe_dump(content))

    def found() -> doctor.Finding:
        return next(each for each in doctor.examine(find(workspace)) if each.check == "GPU")

    monkeypatch.setattr(doctor, "_is_installed", lambda _name: False)
    lacking = found()
    assert (lacking.health, f"train.backend is {backend}" in lacking.found) == ("warning", True)
    assert f"'{extra}'" in lacking.advice
    monkeypatch.setattr(doctor, "_is_installed", lambda name: name in doctor.EXTRAS_FOR_GPUS[backend][1])
    assert (found().health, found().advice) == ("ok", "")


CONFLICT = "<<<<<<< HEAD\nouts:\n=======\nouts: []\n>>>>>>> theirs\n"


@pytest.mark.parametrize(
    ("text", "found", "advice"),
    [
        (CONFLICT, "holds git's conflict marks", "`vggflow data accept`"),
        ("outs: []\n", "can't be read", "`git checkout HEAD -- data.dvc`"),
        ("outs: [", "can't be read", "`git checkout HEAD -- data.dvc`"),
    ],
    ids=["conflict marks", "nothing in it", "no YAML"],
)
def test_a_data_file_that_dvc_cannot_read_is_one_finding_of_its_own(
    workspace: Path, text: str, found: str, advice: str
) -> None:
    (workspace / "data.dvc").write_text(text)
    findings = {each.check: each for each in doctor.examine(find(workspace))}
    finding = findings["data.dvc"]
    assert finding.health == "wrong"
    assert found in finding.found
    assert advice in finding.advice
    assert "\n" not in finding.found + finding.advice
    assert "DVC remote" not in findings, "which nobody can ask while DVC reads none of its files"


def test_a_merge_of_the_data_file_that_git_waits_for_is_a_finding(workspace: Path) -> None:
    here = find(workspace)
    text = (workspace / "data.dvc").read_text()
    here.git("switch", "--quiet", "--create", "other")
    here.git("rm", "--quiet", "data.dvc")
    here.git("commit", "--quiet", "--message", "Without")
    here.git("switch", "--quiet", "-")
    (workspace / "data.dvc").write_text(text.replace("nfiles: ", "nfiles: 1"))
    here.git("commit", "--quiet", "--all", "--message", "With more")
    here.git("merge", "--quiet", "other", none=1)
    findings = {each.check: each for each in doctor.examine(here)}
    assert findings["data.dvc"].found == "git waits for a merge of it"


@pytest.mark.slow
def test_a_dvc_remote_that_is_gone_is_named(workspace: Path) -> None:
    find(workspace).dvc("remote", "modify", "local", "url", str(workspace / "params.yaml" / "nowhere"))
    assert unwell(workspace)["DVC remote"] == "wrong"


@pytest.mark.slow
def test_another_version_of_vggflow_is_a_warning(workspace: Path) -> None:
    (workspace / artifacts.VERSION).write_text("0.0.1 sha256:0\n")
    assert unwell(workspace)["vggflow.version"] == "warning"


@pytest.mark.slow
def test_a_cache_that_everybody_can_write_is_a_warning(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    monkeypatch.setenv("VGGFLOW_STATE", str(state))
    assert unwell(workspace)["state (VGGFLOW_STATE)"] == "warning"


def test_what_up_leaves_is_well_until_others_can_read_a_password(workspace: Path) -> None:
    place = open_place(find(workspace))
    log_ins.write(place)
    (place.folder / log_ins.LOCK).touch(mode=0o644)
    assert "passwords" not in unwell(workspace)
    for name in ("passwords.json", log_ins.FILE):
        (place.folder / name).chmod(0o644)
        assert unwell(workspace)["passwords"] == "wrong"
        (place.folder / name).chmod(0o600)


@contextmanager
def prefect_on_sqlite(workspace: Path, login: str) -> Iterator[str]:
    """Something that answers like Prefect where its port should be: to all at /health, else to who is logged in."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expected = "Basic " + base64.b64encode(login.encode()).decode()
            knows = self.path == "/api/health" or self.headers.get("Authorization") == expected
            self.send_response(200 if knows else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    place = open_place(find(workspace))
    ports = {**place.choices.ports, "prefect": server.server_port}
    files.write_json(place.folder / CHOICES, asdict(Choices(ports, None, prefect_in_postgresql=False)))
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()


def test_a_wrong_credential_of_prefect_and_its_sqlite_are_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with prefect_on_sqlite(workspace, "admin:right") as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        for login, health in ((None, "wrong"), ("admin:guess", "wrong"), ("admin:right", "ok")):
            if login:
                monkeypatch.setenv("PREFECT_API_AUTH_STRING", login)
            found = {finding.check: finding for finding in doctor.examine(find(workspace))}
            assert found["Prefect"].health == health, login
        assert found["Prefect's database"].health == "warning"
        assert "several flows" in found["Prefect's database"].advice


def test_a_tracking_address_that_is_none_is_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    assert unwell(workspace)["MLflow"] == "wrong"


def test_without_a_workspace_the_machine_is_looked_at(tmp_path: Path, vggflow: Callable) -> None:
    ran = vggflow("-C", tmp_path, "doctor")
    assert "no workspace here" in ran.err
    assert "tensorflow" in ran.out


def test_a_dvc_remote_whose_address_has_a_blank_is_told_whole(workspace: Path) -> None:
    here = find(workspace)
    remote = workspace.parent / "a place for all"
    remote.mkdir()
    here.dvc("remote", "modify", "local", "url", str(remote))
    assert here.dvc_remote() == str(remote)
    assert [(each.health, each.found) for each in doctor._dvc_remote(here)] == [("ok", str(remote))]
