"""A request leaves no reference cycle, however it ends: the garbage collector seldom runs inside Envoy."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import pytest

from identity_service.bootstrap import Service
from identity_service.composition.store_admin import open_store_admin
from identity_service.grpc_api.asgi.context import AsgiContext
from identity_service.grpc_api.asgi.wire import frame
from identity_service.http_api.exchange import Exchange
from identity_service.http_api.messages import HttpRequest
from identity_service.settings import Settings
from identityapi.v1 import identity_service_pb2 as pb
from tests.patience import until

HTTP_PORT: Final = 8080
OF_REQUESTS: Final = (AsgiContext, Exchange, HttpRequest)
VERIFY, ISSUE = (f"/identityapi.v1.IdentityService/{name}" for name in ("Verify", "Issue"))
GRPC: Final = [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
FORM: Final = [(b"host", b"a"), (b"content-type", b"application/x-www-form-urlencoded")]
Receive = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings(
        store=f"sqlite:///{tmp_path_factory.mktemp('store')}/identity.db",
        master_key="a master key for tests, 32 characters or more",
        engine="envoy",
        http_listen=f"127.0.0.1:{HTTP_PORT}",  # where Envoy would listen
        issuer="https://id.example",
    )
    with open_store_admin(settings) as administration:
        administration.initialise()
    service = Service(settings, behind_asgi=True)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def whole(body: bytes) -> Receive:
    """Receive the body, and then nothing more."""
    parts = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for part in parts:
            return part
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    return receive


def broken(body: bytes) -> Receive:
    """Receive the beginning of a body, and then that the client has disconnected."""
    parts = iter([{"type": "http.request", "body": body, "more_body": True}])

    async def receive() -> dict[str, Any]:
        return next(parts, {"type": "http.disconnect"})

    return receive


def count() -> int:
    """Return the number of objects that are in memory because of a request."""
    return sum(isinstance(each, OF_REQUESTS) for each in gc.get_objects())


def scope(path: str) -> dict[str, Any]:
    is_grpc = path.startswith("/identityapi")
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "http_version": "2" if is_grpc else "1.1",
        "headers": GRPC if is_grpc else FORM,
        "client": ("192.0.2.7", 4711),
        "server": ("127.0.0.1", 50051 if is_grpc else HTTP_PORT),
        "state": {},
    }


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("path", "receive", "status"),
    [
        (VERIFY, whole(frame(pb.VerifyRequest(token="x", any_audience=True).SerializeToString())), b"0"),
        (VERIFY, whole(frame(b"\xff" * 100_000)), b"3"),
        (VERIFY, whole(b"\0\xff\xff\xff\xff"), b"8"),
        (VERIFY, broken(frame(b"x" * 100_000)[:-1]), None),
        (ISSUE, whole(frame(pb.IssueRequest().SerializeToString())), b"3"),
        (ISSUE, whole(frame(b"x" * 100_000)), b"3"),
        ("/identityapi.v1.IdentityService/None", whole(frame(b"")), b"12"),
        ("/nowhere", whole(b""), 404),
        ("/oauth2/token", whole(b"grant_type=x"), 400),
        ("/oauth2/token", whole(b"grant_type=client_credentials&client_id=a"), 401),
        ("/oauth2/token", whole(b"a" * 100_000), 413),
        ("/oauth2/token", broken(b"a"), 400),
    ],
)
def test_a_request_is_forgotten_when_it_has_ended(
    service: Service, path: str, receive: Receive, status: object
) -> None:
    ended: list[object] = []

    async def send(event: Any) -> None:
        headers = dict(event.get("headers", ()))
        if b"grpc-status" in headers:
            ended.append(headers[b"grpc-status"])
        elif event["type"] == "http.response.start" and not path.startswith("/identityapi"):
            ended.append(event["status"])

    async def serve() -> None:
        app: Any = service.app
        await app(scope(path), receive, send)

    before = count()
    asyncio.run(serve())

    assert ended == ([] if status is None else [status])
    until(lambda: count() <= before)
