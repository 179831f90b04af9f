"""Takes SeaweedFS' place: moto's S3, with the keys and the buckets of `-s3.config`, kept in the folder of `-dir`.

It knows who asks by the access key alone: signatures are not checked. The ports that SeaweedFS' other parts listen on
are open here too, on `-ip.bind`, and the gRPC port of S3 on `-s3.ip.bind`, unless security.toml has a key for it: so a
test can see who could reach them.
"""

import contextlib
import json
import re
import signal
import socket
import sys
import threading
import time
import tomllib
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

INTERNAL, GRPC = (9333, 8080, 8888, 18888, 19333, 18080), 18333
READ, WRITE = {"GET": "Read", "HEAD": "Read"}, "Write"
SECONDS_TO_SETTLE = 1.0
QUOTES = '"'
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def options(words: list[str]) -> dict[str, str]:
    """`-name=value` and `-name` as SeaweedFS takes them."""
    pairs = (word.lstrip("-").partition("=") for word in words if word.startswith("-"))
    return {name: value for name, _, value in pairs}


def guarded(application: Application, identities: list[dict[str, Any]]) -> Application:
    """Answers 403 to who has no key, or none for what is asked."""
    keys = {key["accessKey"]: set(who["actions"]) for who in identities for key in who["credentials"]}

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/healthz":
            start("200 OK", [("Content-Length", "0")])
            return [b""]
        found = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        asked = found or re.search(
            r"X-Amz-Credential=([^/&]+)", urllib.parse.unquote(environ["QUERY_STRING"])
        )
        actions = keys.get(asked[1], set()) if asked else set()
        bucket = environ["PATH_INFO"].strip("/").partition("/")[0]
        action = READ.get(environ["REQUEST_METHOD"], WRITE)
        if environ["REQUEST_METHOD"] in READ and "/" not in environ["PATH_INFO"].strip("/"):
            action = "List"
        if not {"Admin", f"Admin:{bucket}", action, f"{action}:{bucket}"} & actions:
            body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"
            start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return [body]
        return application(environ, start)

    return answer


def main() -> None:
    """Serves until a signal; what is there then is there at the next start."""
    given = options(sys.argv[1:])
    folder, keys = Path(given["dir"]), json.loads(Path(given["s3.config"]).read_text())
    inner = given.get("ip.bind") or "0.0.0.0"  # noqa: S104, as the real one does
    address, port = given.get("s3.ip.bind") or inner, int(given["s3.port"])
    inside = DomainDispatcherApplication(create_backend_app)
    client = client_of(inside)
    load(client, folder)
    changed, saved = threading.Event(), threading.Lock()
    guard = guarded(inside, keys["identities"])

    def note(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return guard(environ, start)
        finally:
            if environ["REQUEST_METHOD"] not in READ:
                changed.set()

    def keep() -> None:
        while changed.wait():
            time.sleep(SECONDS_TO_SETTLE)
            changed.clear()
            with saved:
                save(client, folder)

    server = make_server(address, port, note, threaded=True)
    threading.Thread(target=keep, daemon=True).start()
    listening = [listen(inner, each) for each in INTERNAL]
    listening += [] if signed() else [listen(address, GRPC)]

    def end(number: int, frame: Any) -> None:
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.serve_forever()
    with saved:
        save(client, folder)


def client_of(application: Application) -> Any:
    """Asks it past the guard, at a port that only this container reaches."""
    own = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=own.serve_forever, daemon=True).start()
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{own.server_port}",
        aws_access_key_id="own",
        aws_secret_access_key="own",  # noqa: S106, moto asks for some
        region_name="us-east-1",
    )


def signed() -> bool:
    """Whether SeaweedFS' parts would want signatures of each other."""
    security = Path("/etc/seaweedfs/security.toml")
    return security.exists() and bool(tomllib.loads(security.read_text())["jwt"]["filer_signing"]["key"])


def listen(address: str, port: int) -> socket.socket:
    """A port that takes connections and says nothing."""
    return socket.create_server((address, port))


def load(client: Any, folder: Path) -> None:
    """Puts back what `save` wrote."""
    index = folder / "index.json"
    for bucket, objects in (json.loads(index.read_text()) if index.exists() else {}).items():
        client.create_bucket(Bucket=bucket)
        for key, name in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=(folder / name).read_bytes())


def save(client: Any, folder: Path) -> None:
    """Writes each content as a file named by its ETag, then the index of them; a file that no object has goes."""
    index: dict[str, dict[str, str]] = {}
    for bucket in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
        objects = index.setdefault(bucket, {})
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                # Who deletes it meanwhile has it saved once more.
                with contextlib.suppress(botocore.exceptions.ClientError):
                    objects[entry["Key"]] = _save_one(client, folder, bucket, entry)
    _write(folder / "index.json", json.dumps(index).encode())
    named = {name for objects in index.values() for name in objects.values()}
    for path in folder.glob("*.object"):
        if path.name not in named:
            path.unlink()


def _save_one(client: Any, folder: Path, bucket: str, entry: dict[str, Any]) -> str:
    name = f"{entry['ETag'].strip(QUOTES)}.object"
    if not (folder / name).exists():
        found = client.get_object(Bucket=bucket, Key=entry["Key"])
        name = f"{found['ETag'].strip(QUOTES)}.object"
        _write(folder / name, found["Body"].read())
    return name


def _write(path: Path, content: bytes) -> None:
    half = path.with_suffix(".half")
    half.write_bytes(content)
    half.replace(path)


if __name__ == "__main__":
    main()
