"""Run by `make test-containers` alone: they build images and take a while."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import base_images as images
import docker_daemon
import pytest

REPORT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-containers", action="store_true", help="build images and run containers")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.getoption("--run-containers", default=False) else True


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was original and what a stand-in, and the tables that the tests filled."""
    for line in config.stash[REPORT]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> list[str]:
    """Lines to print at the end."""
    return pytestconfig.stash[REPORT]


@pytest.fixture(scope="session")
def docker() -> Iterator[Mapping[str, str]]:
    """The environment in which `docker` works."""
    with ExitStack() as stack:
        try:
            environment = stack.enter_context(docker_daemon.daemon())
        except RuntimeError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
        yield environment


@pytest.fixture(scope="session")
def base_images(docker: Mapping[str, str], report: list[str]) -> Iterator[Mapping[str, str]]:
    """The images that infra/ starts from, each with what it is."""
    found = images.ensure(docker)
    report += [f"{name}: {what}" for name, what in found.items()]
    yield found
    if "DOCKER_HOST" not in docker:
        images.forget(found, docker)
