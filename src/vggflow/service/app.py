"""The service's addresses: images in, answers out; health, metrics, and a page to drop an image on."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vggflow import __version__
from vggflow.errors import VggflowError
from vggflow.prediction import answer
from vggflow.prediction.predictor import Source
from vggflow.service import open_inference
from vggflow.service.bodies import read_body, read_files
from vggflow.service.heat_process import HeatProcess
from vggflow.service.keep import Keeping
from vggflow.service.limits import RequestRefused, UnderWay
from vggflow.service.metrics import Metrics
from vggflow.service.served_model import Answer, Loaded, ServedModel, Service

PAGE = Path(__file__).parent / "page.html"
MODEL_HEADER = "x-vggflow-model"
# Scripts and styles of the page itself, and what it asks here; nothing from elsewhere.
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; frame-ancestors 'none'"
)
# How the page and Prometheus are told whom to ask for a token.
BEARER = "Bearer "

Follow = Callable[[Service], Coroutine[Any, Any, None]]


def create(
    service: Service, token: str | None, follow: Follow | None = None, keeping: Keeping | None = None
) -> FastAPI:
    """The application.

    Args:
        service: The model that answers.
        token: What a request has to bear; without one, only requests to this machine's own names are answered.
        follow: Replaces the model while the service runs.
        keeping: Writes down what the answers were like.
    """
    under_way = UnderWay(service.limits)
    heat = HeatProcess()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.begin()
        beside = [follow(service)] if follow else []
        beside += [keeping.run()] if keeping else []
        tasks = [asyncio.create_task(each) for each in beside]
        yield
        for task in tasks:
            task.cancel()
        heat.close()
        await service.end()
        if keeping:
            await keeping.end()

    # Its pages of documentation load scripts from elsewhere.
    app = FastAPI(title="vggflow", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(_Measured, metrics=service.metrics)
    if token is None:
        # Else a page of the internet could ask through a browser on this machine, under a name of its own.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]"])
    app.add_exception_handler(RequestRefused, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(VggflowError, _failed)
    allowed = [Depends(partial(_allowed, token))]

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(PAGE.read_text("utf-8"), headers={"content-security-policy": PAGE_POLICY})

    @app.post("/predict", dependencies=allowed)
    async def predict(request: Request) -> Response:
        """An image as the body, or several as files of a form (multipart/form-data)."""
        async with _limited(service, under_way, request) as (model, body, held):
            files = await read_files(request, body, service.limits)
            sent: Sequence[Source | str] = [body] if files is None else [content for _, content in files]
            held.more_images(len(sent))
            answers = await model.answers(sent)
        service.metrics.unreadable.inc(sum(bool(each.error) for each in answers))
        if files is None and answers[0].error:
            raise RequestRefused(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"not a readable image ({answers[0].error})"
            )
        rows = [_row(model.loaded, each) for each in answers]
        if files is not None:
            rows = [{"file": name} | row for (name, _), row in zip(files, rows, strict=True)]
        return _json({"model": _told(model.loaded), "predictions": rows}, model.loaded)

    @app.post("/explain", dependencies=allowed)
    async def explain(request: Request) -> Response:
        """An image as the body; its heat map for the answer, a picture as a `data:` address."""
        async with _limited(service, under_way, request) as (model, body, held):
            held.more_images(1)
            found = (await model.answers([body]))[0]
            if found.probabilities is None:
                raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, f"not a readable image ({found.error})")
            label = model.loaded.predictor.info.class_names[int(found.probabilities.argmax())]
            picture = await heat.draw(model.loaded, body, label)
        return _json({"model": _told(model.loaded), "label": label, "picture": picture}, model.loaded)

    @app.get("/metrics", dependencies=allowed)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    _add_open_inference(app, service, under_way, allowed)
    return app


def _add_open_inference(app: FastAPI, service: Service, under_way: UnderWay, allowed: list[Any]) -> None:
    @app.get("/v2/health/live")
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        status = HTTPStatus.OK if service.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _json({"ready": service.is_ready}, status=status)

    @app.get("/v2", dependencies=allowed)
    async def server() -> Response:
        return _json({"name": "vggflow", "version": __version__, "extensions": ["binary_tensor_data"]})

    @app.get("/v2/models/{name}/ready", dependencies=allowed)
    @app.get("/v2/models/{name}/versions/{version}/ready", dependencies=allowed)
    async def model_ready(name: str, version: str | None = None) -> Response:
        loaded = _named(service, name, version).loaded
        return _json({"name": loaded.name, "ready": True}, loaded)

    @app.get("/v2/models/{name}", dependencies=allowed)
    @app.get("/v2/models/{name}/versions/{version}", dependencies=allowed)
    async def metadata(name: str, version: str | None = None) -> Response:
        loaded = _named(service, name, version).loaded
        return _json(open_inference.metadata(loaded), loaded)

    @app.post("/v2/models/{name}/infer", dependencies=allowed)
    @app.post("/v2/models/{name}/versions/{version}/infer", dependencies=allowed)
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        _named(service, name, version)
        async with _limited(service, under_way, request) as (model, body, held):
            # In a thread: a body of many small values takes seconds, in which nobody else would be answered.
            question = await asyncio.to_thread(
                open_inference.read, body, request.headers.get(open_inference.JSON_LENGTH)
            )
            held.more_images(len(question.sent))
            answers = await model.answers(question.sent)
        service.metrics.unreadable.inc(sum(bool(each.error) for each in answers))
        return _json(open_inference.answer(model.loaded, answers, question.id), model.loaded)


@asynccontextmanager
async def _limited(
    service: Service, under_way: UnderWay, request: Request
) -> AsyncIterator[tuple[ServedModel, bytes, Any]]:
    """The model and the body of a request, for which it has so many seconds."""
    try:
        async with asyncio.timeout(service.limits.seconds):
            with under_way.request() as held:
                body = await read_body(request, held, service.limits)
                # Taken once: the answer is of this model, whatever comes after it.
                yield service.current, body, held
    except TimeoutError:
        raise RequestRefused(
            HTTPStatus.SERVICE_UNAVAILABLE, f"not done within {service.limits.seconds:g} s: try again later"
        ) from None


async def _allowed(token: str | None, request: Request) -> None:
    if token is None:
        return
    said = request.headers.get("authorization", "")
    # Compared in the same time whatever is right of it.
    if not hmac.compare_digest(said.encode(), f"{BEARER}{token}".encode()):
        raise RequestRefused(
            HTTPStatus.UNAUTHORIZED, "a token is needed: send it as `Authorization: Bearer …`"
        )


def _named(service: Service, name: str, version: str | None) -> ServedModel:
    model = service.current
    if name != model.loaded.name or (version is not None and version != model.loaded.version):
        asked = name if version is None else f"{name} version {version}"
        raise RequestRefused(
            HTTPStatus.NOT_FOUND, f"no model {asked[:100]!r} here: {model.loaded.title} answers"
        )
    return model


def _row(loaded: Loaded, found: Answer) -> dict[str, Any]:
    if found.probabilities is None:
        return {"error": found.error}
    return answer.told(loaded.predictor.info.class_names, found.probabilities)


def _told(loaded: Loaded) -> dict[str, Any]:
    return {"name": loaded.name, "version": loaded.version}


def _json(content: Any, loaded: Loaded | None = None, status: HTTPStatus = HTTPStatus.OK) -> Response:
    # A header holds Latin letters only; names of models may hold others.
    headers = {MODEL_HEADER: loaded.title.encode("ascii", "backslashreplace").decode()} if loaded else {}
    return JSONResponse(content, status, headers)


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RequestRefused) else HTTPStatus.INTERNAL_SERVER_ERROR
    # The rest of the body may still be coming, for ever.
    headers = {"connection": "close"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = BEARER.strip()
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["retry-after"] = "1"
    return JSONResponse({"error": str(error)}, status, headers)


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    phrase = HTTPStatus(status).phrase.lower()
    said = f"{request.method} {request.url.path[:100]}: {phrase}; /openapi.json lists what there is"
    return JSONResponse({"error": said}, status, {"connection": "close"})


async def _failed(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)


class _Measured:
    """Counts and times requests by the address that they matched: what nothing matched is one."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), [HTTPStatus.INTERNAL_SERVER_ERROR.value]

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, str(status[0])).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)
