"""A stack of containers as a person has it: a checkout, a workspace, a git server, and the commands that they type."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import dotenv
import httpx
from team import Team

ROOT = Path(__file__).parents[2]


@dataclass
class Stack:
    """What `vggflow up --containers` started.

    Attributes:
        checkout: A clone of vggflow, from which images are built and in which `infra/.env` lies.
        root: The workspace.
        project: The name that Compose gives to containers, networks and volumes.
        docker: What makes `docker` find its daemon.
    """

    checkout: Path
    root: Path
    project: str
    docker: Mapping[str, str]
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def infra(self) -> Path:
        return self.checkout / "infra"

    @property
    def environment(self) -> dict[str, str]:
        """Of somebody who set nothing, but for the names of this test."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLFLOW_", "PREFECT_", "AWS_", "VGGFLOW_"))
        }
        own = {
            "COMPOSE_PROJECT_NAME": self.project,
            "COLUMNS": "200",
            "PREFECT_HOME": str(self.root.parent / "prefect"),
        }
        # Who runs this may have told git nothing yet.
        for role in ("AUTHOR", "COMMITTER"):
            own |= {f"GIT_{role}_NAME": "Ann", f"GIT_{role}_EMAIL": "ann@example.org"}
        return (
            kept | dict(self.docker) | own | {"VGGFLOW_STATE": str(self.root.parent / "state")} | self.extra
        )

    @property
    def env(self) -> dict[str, str]:
        """`infra/.env`."""
        found = dotenv.dotenv_values(self.infra / ".env", interpolate=False)
        return {name: value or "" for name, value in found.items()}

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.env['MLFLOW_PORT']}"

    @property
    def prefect_url(self) -> str:
        return f"http://127.0.0.1:{self.env['PREFECT_PORT']}"

    def run(self, *command: str, seconds: float = 600, check: bool = True, given: str | None = None) -> str:
        """Runs a program; returns all that it printed."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0 or not check, (
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}"
        )
        return done.stdout

    def vggflow(self, *arguments: str, seconds: float = 600) -> str:
        """Runs vggflow's command line in the workspace."""
        return self.run(
            sys.executable, "-m", "vggflow.cli", "-C", str(self.root), *arguments, seconds=seconds
        )

    def rows(self) -> list[tuple[str, int, str]]:
        """The registry: model, version and aliases."""
        return [
            (row["model"], row["version"], row["aliases"])
            for row in json.loads(self.vggflow("models", "--json"))
        ]

    def up(self) -> str:
        """`vggflow up --containers`."""
        return self.vggflow("up", "--containers", str(self.infra), seconds=1800)

    def compose(
        self, *arguments: str, seconds: float = 600, given: str | None = None, check: bool = True
    ) -> str:
        """Runs `docker compose` with the stack's file."""
        command = ("docker", "compose", "-f", str(self.infra / "compose.yaml"), *arguments)
        return self.run(*command, seconds=seconds, given=given, check=check)

    def store(self, who: str) -> Any:
        """The S3 store, by the keys of STORAGE (the servers), WORKER or PERSON."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.env['STORAGE_PORT']}",
            aws_access_key_id=self.env[f"{who}_ACCESS_KEY"],
            aws_secret_access_key=self.env[f"{who}_SECRET_KEY"],
            region_name="us-east-1",
        )

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container."""
        number = self.compose("ps", "--all", "--quiet", service).split()[0]
        found: dict[str, Any] = json.loads(self.run("docker", "inspect", number))[0]
        return found

    def team(self) -> Team:
        """The same servers, for what `team` asks of them."""
        login = {"PREFECT_API_AUTH_STRING": self.env["PREFECT_LOGIN"]}
        return ContainersTeam(
            self.root.parent, None, None, self.prefect_url, self.mlflow_url, self.extra | login
        )  # type: ignore[arg-type]


class ContainersTeam(Team):
    """Asks with the log-in that these servers want."""

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        name, _, password = self.extra["PREFECT_API_AUTH_STRING"].partition(":")
        with httpx.Client(trust_env=False, timeout=60, auth=(name, password)) as client:
            answer = client.request(method, f"{self.prefect_url}/api{path}", json=content)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


def reaches(stack: Stack, service: str, host: str, port: int) -> bool:
    """Whether a process in a container can open a connection, by itself."""
    ask = f"import socket; socket.create_connection(({host!r}, {port}), 5).close(); print('reached')"
    return "reached" in stack.compose("exec", "-T", service, "python", "-c", ask, check=False)


def through_the_proxy(stack: Stack, service: str, place: str) -> str:
    """What a process in a container is told that asks the proxy of its environment for a way to a host and port."""
    host, _, port = place.partition(":")
    command = ["nc", "-w", "5", "-X", "connect", "-x", "egress:8888", host, port]
    return stack.compose("exec", "-T", service, *command, check=False, given="\n")
