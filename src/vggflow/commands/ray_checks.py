"""What `vggflow doctor` finds of Ray: who may give work to a cluster, or to a head on this machine, and the nodes.

A cluster that wants no token runs what anybody sends who reaches its ports (CVE-2023-48022, "ShadowRay").
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vggflow import cluster
from vggflow.commands.findings import Finding
from vggflow.errors import VggflowError
from vggflow.processes import ray_head
from vggflow.processes.ray_head import Answer

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ADDRESS = re.compile(rf"({ray_head.CLIENT})?[^/\s]+:\d+")
CLOSE = "RAY_AUTH_MODE=token and a token on all its nodes, its ports shut till then: docs/operating.md"


def checks() -> Iterator[Finding]:
    """The token's file, a head on this machine, and the cluster that `RAY_ADDRESS` names.

    Ray is imported last, and only where there is a cluster that lets us in.
    """
    yield from _token_file()
    yield from _heads_here()
    address = os.environ.get(cluster.ADDRESS, "")
    if not address:
        yield Finding("Ray", "ok", f"{cluster.ADDRESS} is not set: the work of a run stays on this machine")
        return
    try:
        here = version("ray")
    except PackageNotFoundError:
        advice = f"pip install 'vggflow[ray]', or unset {cluster.ADDRESS}"
        yield Finding("Ray", "wrong", f"{cluster.ADDRESS} is set, and Ray is not installed", advice)
        return
    yield from _cluster(address, here)


def _token_file() -> Iterator[Finding]:
    """Ray writes its token so that all may read it who get into the folder."""
    path = _token_path()
    with suppress(OSError):
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            advice = f"chmod 600 {path}, and another token if others have an account here: docs/operating.md"
            yield Finding("Ray's token file", "wrong", f"{path} is readable by others", advice)


def _heads_here() -> Iterator[Finding]:
    """Whom a head on this machine lets in; what it listens on depends on the address that it was given."""
    for socket in ray_head.sockets_here():
        answer = ray_head.ask(socket.address)
        if answer.kind == "refused":
            yield Finding("Ray's head here", "ok", f"listens on {socket.open_to}, and wants a token")
        elif answer.kind == "let in":
            whom = "every account of this machine" if socket.local else "whoever reaches it (CVE-2023-48022)"
            told = f"listens on {socket.open_to}, and takes work from {whom}"
            yield Finding("Ray's head here", "warning" if socket.local else "wrong", told, CLOSE)


def _cluster(address: str, here: str) -> Iterator[Finding]:
    """Whether a cluster answers and lets us in, whom else it lets in, its version of Ray, and its nodes."""
    if not ADDRESS.fullmatch(address):
        expected = "expected HOST:PORT, or ray://HOST:PORT from outside the cluster"
        yield Finding("Ray", "wrong", f"{cluster.ADDRESS} is {address!r}", expected)
        return
    answer = ray_head.ask(address)
    if answer.kind == "silent":
        advice = f"start it, mend {cluster.ADDRESS}, or unset it to work on this machine"
        yield Finding("Ray", "wrong", f"no Ray answers at {address} ({answer.said})", advice)
        return
    if answer.kind == "let in":
        yield _open(address)
    else:
        answer, finding = _with_token(address)
        yield finding
        if answer.kind != "let in":
            return
    if answer.said and answer.said != here:
        advice = "the same version on all machines: they refuse each other"
        yield Finding("Ray", "wrong", f"{answer.said} at {address}, {here} here", advice)
        return
    # Through `ray://` the version is not told; what differs is, when the nodes are asked.
    yield Finding("Ray", "ok", f"{here} at {address}" if answer.said else f"{here} here, for {address}")
    yield from _nodes()


def _open(address: str) -> Finding:
    if ray_head.uses_tls():
        # Nobody gets so far without a certificate of the cluster's authority.
        told = f"{address} takes work from every holder of a certificate"
        return Finding("Ray's token", "warning", told, CLOSE)
    told = f"{address} takes work from whoever reaches it (CVE-2023-48022)"
    return Finding("Ray's token", "wrong", told, CLOSE)


def _with_token(address: str) -> tuple[Answer, Finding]:
    """What a cluster that wants a token says to ours."""
    mode = os.environ.get(MODE, "")
    if mode.lower() != "token":
        advice = f"export {MODE}=token: to an address that is given Ray sends its token only then"
        told = f"{address} wants one, and {MODE} is {mode or 'not set'}"
        return Answer("refused"), Finding("Ray's token", "wrong", told, advice)
    token = _token()
    if not token:
        advice = f"set {TOKEN}, or put it into {_token_path()} with mode 600"
        told = f"{address} wants one, and there is none here"
        return Answer("refused"), Finding("Ray's token", "wrong", told, advice)
    answer = ray_head.ask(address, token)
    if answer.kind != "let in":
        source = TOKEN if os.environ.get(TOKEN) else _token_path()
        told = f"{address} does not take that of {source} ({answer.said})"
        return answer, Finding(
            "Ray's token", "wrong", told, "ask who runs the cluster for the one it has now"
        )
    encrypted = "" if ray_head.uses_tls() else "; nothing is encrypted, so its network has to be closed"
    return answer, Finding("Ray's token", "ok", f"{address} wants one, and takes ours{encrypted}")


def _token() -> str:
    """Ours, where Ray looks for it, in that order, and without the line's end that it drops as well."""
    if given := os.environ.get(TOKEN, "").strip():
        return given
    with suppress(OSError, UnicodeError):
        return _token_path().read_text("utf-8").strip()
    return ""


def _token_path() -> Path:
    # `Path.home()` raises where there is no home, as in some containers.
    return Path(os.environ.get(TOKEN_PATH) or os.path.expanduser("~/.ray/auth_token"))  # noqa: PTH111


def _nodes() -> Iterator[Finding]:
    """What nodes can work, and which have other software than this machine."""
    try:
        found = cluster.nodes()
    except VggflowError as error:
        advice = f"on a machine that is no node of it, {cluster.ADDRESS}=ray://HOST:10001"
        yield Finding("Ray's nodes", "wrong", str(error), advice)
        return
    if not found:
        yield Finding("Ray's nodes", "wrong", "none has cores to work with", "start nodes that have some")
        return
    others = [node for node in found if node.differences]
    for node in others:
        advice = "install there what is here, the first of each, or take the node off: a run refuses it"
        yield Finding("Ray's nodes", "wrong", f"{node.address}: {', '.join(node.differences)}", advice)
    if not others:
        cores, gpus = (sum(getattr(node, name) for node in found) for name in ("cores", "gpus"))
        told = f"nodes {len(found)}, cores {cores:g}, GPUs {gpus:g}: all with the software of this machine"
        yield Finding("Ray's nodes", "ok", told)
