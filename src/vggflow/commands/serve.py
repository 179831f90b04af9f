"""`vggflow serve`: a model that answers over HTTP, the champion unless told otherwise, and whoever becomes it."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow.commands import keep_answers, named_model
from vggflow.console import say
from vggflow.credentials import without_password
from vggflow.environment import SERVE_TOKEN, tracking_uri
from vggflow.errors import UsageError, VggflowError
from vggflow.tracking.registry import champion_alias
from vggflow.workspace import find

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vggflow.service.served_model import Loaded, Service

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LIMITS = "Limits"
# A request's head: names, tokens; a browser's cookies of other programs on this machine too.
HEAD_BYTES = 64 * 1024
CONNECTIONS = 1000


def command(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(help="champion, challenger, a version such as 3 or candidate:3, or a model file."),
    ] = champion_alias.CHAMPION,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    follow: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks for another champion.")
    ] = 5.0,
    megabytes: Annotated[
        int, typer.Option(min=1, max=512, rich_help_panel=LIMITS, help="Of a request's body.")
    ] = 32,
    megapixels: Annotated[int, typer.Option(min=1, max=89, rich_help_panel=LIMITS, help="Of an image.")] = 40,
    images: Annotated[int, typer.Option(min=1, rich_help_panel=LIMITS, help="Of a request.")] = 64,
    waiting: Annotated[
        int, typer.Option(min=1, rich_help_panel=LIMITS, help="Images that wait; more are refused (429).")
    ] = 256,
    seconds: Annotated[float, typer.Option(min=0.1, rich_help_panel=LIMITS, help="For a request.")] = 30.0,
    keep: Annotated[
        bool,
        typer.Option("--keep/--no-keep", help="Keep for `drift`, every hour, what the answers were like."),
    ] = True,
) -> None:
    """Answers over HTTP: a page, POST /predict, the Open Inference Protocol (/v2), /metrics."""
    token = os.environ.get(SERVE_TOKEN) or None
    if token is None and host not in LOOPBACK:
        raise UsageError(
            f"--host {host} lets others ask, and anybody could: set {SERVE_TOKEN} to what they have to send"
        )
    with _listening(host, port) as listener:
        loaded = _load(context.obj, model)
        from vggflow.service import app
        from vggflow.service.follow import follow as follow_registry
        from vggflow.service.keep import Keeping
        from vggflow.service.limits import MEGA, Limits
        from vggflow.service.served_model import Service

        service = Service(loaded, Limits(megabytes * MEGA, megapixels * MEGA, images, waiting, seconds))
        look = partial(_another, context.obj) if model == champion_alias.CHAMPION else None
        following = partial(follow_registry, look=look, seconds=follow) if look else None
        keeping = Keeping(service, partial(keep_answers.keep, context.obj)) if keep else None
        _run(service, listener, app.create(service, token, following, keeping))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio lets only connections of this protocol send at once what is written in two pieces. Else the
    # second one, an answer's body, waits 40 ms until the other side says that the first came.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        said = error.strerror or str(error)
        raise UsageError(f"can't listen on {host}:{port} ({said}): name another --port or --host") from error
    return listener


def _run(service: "Service", listener: socket.socket, made: "FastAPI") -> None:
    import uvicorn

    config = uvicorn.Config(
        made,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        # Requests under way are answered after Ctrl-C, but not for ever.
        timeout_graceful_shutdown=int(service.limits.seconds) + 1,
    )
    # From here on nobody is refused: who comes before uvicorn takes him waits for milliseconds.
    listener.listen(CONNECTIONS)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    title = service.first.title
    say(f"{title} answers at {address}: a page, POST /predict, /v2, /metrics; Ctrl-C stops it")
    # uvicorn ends well and then raises the signal once more.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _load(folder: Path, model: str) -> "Loaded":
    """The model, after it has answered once."""
    from vggflow.prediction.onnx_predictor import is_graph, ready
    from vggflow.service.served_model import Loaded

    with named_model.answering(folder, model) as file:
        predictor = ready(file.path, partial(named_model.backend, folder))
        predictor.answer_once()
        if file.number is None:
            keras_file = None if is_graph(file.path) else _file(folder, model)
            return Loaded(predictor, file.path.stem, None, keras_file)
        return Loaded(predictor, file.name, file.number, _file(folder, named_model.pinned(model, file)))


def _file(folder: Path, model: str) -> "Callable[[], AbstractContextManager[Path]]":
    @contextmanager
    def of_keras() -> Iterator[Path]:
        with named_model.located(folder, model) as file:
            yield file.path

    return of_keras


def _another(folder: Path, number: int | None) -> "Loaded | None":
    """The champion where it is another version than `number`.

    Raises:
        VggflowError: the registry does not answer, or has no champion.
    """
    workspace = find(folder)
    name, uri = workspace.settings().registry.name, tracking_uri(workspace.root)
    try:
        champion = champion_alias.ask(uri, name)
        found = champion.number if champion else None
    except champion_alias.Away as away:
        raise VggflowError(f"MLflow at {without_password(uri)} {away}") from away
    except champion_alias.AskMLflow:
        found = named_model.registered(folder, champion_alias.CHAMPION).number
    if found is None:
        raise VggflowError(f"{name} has no champion any more")
    return None if found == number else _load(folder, champion_alias.CHAMPION)
