"""The application of the HTTP API, called as an ASGI server calls it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
import structlog

from identity_service.domain.errors import NotReadyError
from identity_service.http_api.app import HttpApp, HttpRoute
from identity_service.http_api.messages import Endpoint, HttpRequest, HttpResponse
from identity_service.transport.limits import Bound, Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE, until
from tests.unit.http_api.asgi import ask


@contextmanager
def serving(endpoint: Endpoint, *, is_instant: bool = False, **limits: object) -> Iterator[HttpApp]:
    """Return an application with the endpoint at `/`, for POST."""
    route = HttpRoute(path="/", methods=("POST",), endpoint=endpoint, is_instant=is_instant)
    config = LimitsConfig(**({"exempt": ()} | limits))  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as pool:
        yield HttpApp([route], pool, Limits(config, RecordingEventLog()))


def nothing(_: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def test_an_endpoint_gets_the_whole_request_and_its_origin() -> None:
    seen: list[HttpRequest] = []

    def endpoint(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse(status=200, headers=(("X-A", "1"), ("X-A", "2")), body=b"ok")

    headers = [(b"accept", b"a"), (b"x-request-id", b"r1"), (b"accept", b"b")]
    with serving(endpoint) as app:
        reply = asyncio.run(ask(app, headers=headers, body=[b"one", b"two"]))

    (request,) = seen
    assert (request.method, request.path, request.query, request.body) == ("POST", "/", b"q=1", b"onetwo")
    assert request.headers["accept"] == ("a", "b")
    assert not {"q=1", "onetwo", "accept"} & set(repr(request).split("'"))
    assert (request.origin.peer, request.origin.request_id) == ("192.0.2.1:5000", "r1")
    assert (reply.status, reply.body) == (200, b"ok")
    assert [value for name, value in reply.events[0]["headers"] if name == b"x-a"] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("client", "peer"),
    [(("2001:db8::1", 7), "[2001:db8::1]:7"), (None, ""), (("192.0.2.1", 7), "192.0.2.1:7")],
)
def test_the_origin_has_the_address_of_the_client(client: tuple[str, int] | None, peer: str) -> None:
    peers: list[str] = []

    def endpoint(request: HttpRequest) -> HttpResponse:
        peers.append(request.origin.peer)
        return HttpResponse(status=204)

    with serving(endpoint) as app:
        asyncio.run(ask(app, client=client, headers=[(b"x-forwarded-for", b"203.0.113.9")]))

    assert peers == [peer]


@pytest.mark.parametrize(
    ("client", "peer"), [(("10.0.0.7", 7), "203.0.113.9:0"), (("192.0.2.1", 7), "192.0.2.1:7")]
)
def test_the_address_that_a_proxy_forwards_is_believed_if_the_proxy_is_trusted(
    client: tuple[str, int], peer: str
) -> None:
    peers: list[str] = []

    def endpoint(request: HttpRequest) -> HttpResponse:
        peers.append(request.origin.peer)
        return HttpResponse(status=204)

    with serving(endpoint, proxies=("10.0.0.0/8",)) as app:
        asyncio.run(ask(app, client=client, headers=[(b"x-forwarded-for", b"203.0.113.9")]))

    assert peers == [peer]


def test_an_endpoint_that_waits_runs_in_a_thread_and_an_instant_one_on_the_loop() -> None:
    threads: list[threading.Thread] = []

    def endpoint(_: HttpRequest) -> HttpResponse:
        threads.append(threading.current_thread())
        return HttpResponse(status=204)

    for is_instant in (False, True):
        with serving(endpoint, is_instant=is_instant) as app:
            asyncio.run(ask(app))

    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()


def test_an_error_of_an_endpoint_is_logged_by_its_place_and_shown_to_no_client() -> None:
    def endpoint(_: HttpRequest) -> HttpResponse:
        raise RuntimeError("a secret of the request")

    with structlog.testing.capture_logs() as lines, serving(endpoint) as app:
        reply = asyncio.run(ask(app))

    assert reply.status == 500
    assert b"secret" not in reply.body
    assert "secret" not in str(lines)
    assert {"http_bug", "http"} == {line["event"] for line in lines}


def test_a_process_that_is_not_ready_says_when_to_try_again() -> None:
    def endpoint(_: HttpRequest) -> HttpResponse:
        raise NotReadyError("the log is being read")

    with serving(endpoint, is_instant=True) as app:
        reply = asyncio.run(ask(app))

    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a\0"])
def test_a_header_that_could_split_the_answer_is_not_sent(value: str) -> None:
    with serving(lambda _: HttpResponse(status=200, headers=(("X", value),))) as app:
        reply = asyncio.run(ask(app))

    assert reply.status == 500
    assert "x" not in reply.headers


def test_the_log_line_of_a_request_has_neither_its_path_nor_its_query_unless_there_is_a_route() -> None:
    with structlog.testing.capture_logs() as lines, serving(nothing) as app:
        asyncio.run(ask(app, "/a-token-in-a-path"))
        asyncio.run(ask(app))

    assert [(line["path"], line["status"]) for line in lines] == [(None, 404), ("/", 204)]
    assert "q=1" not in str(lines)


def test_a_request_that_does_not_arrive_in_time_ends_and_is_counted_no_more() -> None:
    with serving(nothing, request_timeout=timedelta(milliseconds=1)) as app:
        reply = asyncio.run(ask(app, complete=False))
        limits = app._limits

    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert limits.refusals["request_timeout"] == 1
    assert (limits.calls.open, limits.receives.open) == (0, 0)


def test_an_address_beyond_its_bound_is_refused_and_another_one_is_served() -> None:
    entered, may_end = threading.Event(), threading.Event()

    def endpoint(_: HttpRequest) -> HttpResponse:
        entered.set()
        may_end.wait(PATIENCE)
        return HttpResponse(status=204)

    async def ask_beside() -> tuple[int, int]:
        first = asyncio.ensure_future(ask(app))
        await asyncio.to_thread(entered.wait, PATIENCE)
        same = await ask(app)
        may_end.set()
        other = await ask(app, client=("198.51.100.1", 1))
        await first
        return same.status, other.status

    with serving(endpoint, calls=Bound(total=100, per_peer=1)) as app:
        assert asyncio.run(ask_beside()) == (429, 204)
        assert app._limits.refusals["max_calls_per_peer"] == 1


def test_a_full_process_refuses_also_requests_that_have_not_arrived() -> None:
    with serving(nothing, receives=Bound(total=0, per_peer=1)) as app:
        reply = asyncio.run(ask(app))
        limits = app._limits

    assert reply.status == 429
    assert "retry-after" in reply.headers
    assert limits.calls.open == 0


def test_a_process_that_stops_answers_what_is_in_progress() -> None:
    entered, may_end = threading.Event(), threading.Event()

    def endpoint(_: HttpRequest) -> HttpResponse:
        entered.set()
        may_end.wait(PATIENCE)
        return HttpResponse(status=204)

    with serving(endpoint) as app, ThreadPoolExecutor(2) as threads:
        first = threads.submit(lambda: asyncio.run(ask(app)))
        entered.wait(PATIENCE)
        app.begin_drain()
        drained = threads.submit(app.drain, PATIENCE)
        assert not drained.done()
        may_end.set()

        assert first.result().status == 204
        assert first.result().headers["connection"] == "close"
        assert drained.result()


def test_a_process_that_has_stopped_refuses_requests() -> None:
    with serving(nothing) as app:
        assert app.drain(0.0)

        assert asyncio.run(ask(app)).status == 503


def test_a_request_that_takes_longer_than_the_grace_is_reported() -> None:
    entered, may_end = threading.Event(), threading.Event()

    def endpoint(_: HttpRequest) -> HttpResponse:
        entered.set()
        may_end.wait(PATIENCE)
        return HttpResponse(status=204)

    with serving(endpoint) as app, ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: asyncio.run(ask(app)))
        entered.wait(PATIENCE)

        assert not app.drain(0.0)
        may_end.set()


def test_a_process_that_stops_answers_instant_requests() -> None:
    with serving(nothing, is_instant=True) as app:
        app.drain(0.0)

        assert asyncio.run(ask(app)).status == 204


def test_a_request_whose_threads_have_ended_is_refused() -> None:
    with serving(nothing) as app:
        pass  # leaving it ends the threads

    assert asyncio.run(ask(app)).status == 503


@pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", True), ("9.9", True), ("2", False)])
def test_a_connection_that_is_refused_is_closed_whichever_version_of_http1_its_client_names(
    version: str, closes: bool
) -> None:
    with serving(nothing) as app:
        reply = asyncio.run(ask(app, headers=[(b"long", 40_000 * b"a")], version=version))

    assert reply.status == 431
    assert ("connection" in reply.headers) is closes


def test_a_request_of_a_thousand_short_headers_is_refused() -> None:
    with serving(nothing) as app:
        assert asyncio.run(ask(app, headers=[(b"a", b"")] * 900)).status == 204
        assert asyncio.run(ask(app, headers=[(b"a", b"")] * 1000)).status == 431


@pytest.mark.parametrize(("path", "closes"), [("/nowhere", True), ("/", False)])
def test_a_client_that_was_not_asked_for_its_body_is_disconnected(path: str, closes: bool) -> None:
    with serving(nothing) as app:
        reply = asyncio.run(ask(app, path, headers=[(b"expect", b"100-continue")], body=[b"a"]))

    assert ("connection" in reply.headers) is closes


def test_the_answer_to_head_has_no_body_and_the_length_of_that_of_get() -> None:
    route = HttpRoute(path="/", methods=("GET",), endpoint=lambda _: HttpResponse(status=200, body=b"four"))
    with ThreadPoolExecutor(1) as pool:
        app = HttpApp([route], pool, Limits(LimitsConfig(), RecordingEventLog()))
        reply = asyncio.run(ask(app, method="HEAD"))

    assert (reply.body, reply.headers["content-length"]) == (b"", "4")


def test_log_lines_of_an_endpoint_name_the_request() -> None:
    bound: list[object] = []
    before = structlog.contextvars.get_contextvars()

    def endpoint(_: HttpRequest) -> HttpResponse:
        bound.append(structlog.contextvars.get_contextvars().get("request_id"))
        return HttpResponse(status=204)

    with serving(endpoint) as app:
        asyncio.run(ask(app, headers=[(b"x-request-id", b"r7")]))

    assert bound == ["r7"]
    until(lambda: not app._open)
    assert structlog.contextvars.get_contextvars() == before


@pytest.mark.parametrize("status", [204, 500])
def test_every_line_of_a_request_names_its_trace(status: int) -> None:
    def endpoint(_: HttpRequest) -> HttpResponse:
        structlog.get_logger().info("an event within the request")
        return HttpResponse(status=status)

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = [(b"traceparent", f"00-{trace}-00f067aa0ba902b7-00".encode())]
    merged = structlog.contextvars.merge_contextvars
    with structlog.testing.capture_logs(processors=[merged]) as lines, serving(endpoint) as app:
        asyncio.run(ask(app, headers=headers))
        asyncio.run(ask(app))

    assert [line.get("trace_id") for line in lines] == [trace, trace, None, None]


def test_a_request_counts_by_method_route_and_status() -> None:
    with serving(nothing) as app:
        asyncio.run(ask(app))
        asyncio.run(ask(app))
        asyncio.run(ask(app, method="GET"))
        asyncio.run(ask(app, path="/a/path/that/a/client/invents"))
        asyncio.run(ask(app, method="INVENTED"))

    counted = {labels: found.count for labels, found in app.durations.read().items()}
    assert counted == {
        ("POST", "/", "204"): 2,
        ("GET", "other", "405"): 1,
        ("POST", "other", "404"): 1,
        ("other", "other", "405"): 1,
    }


def test_a_request_that_a_limit_refuses_counts_as_well() -> None:
    with serving(nothing, calls=Bound(total=0, per_peer=0)) as app:
        asyncio.run(ask(app))

    assert {labels: found.count for labels, found in app.durations.read().items()} == {
        ("POST", "other", "429"): 1
    }
