"""The policy of an HTTP application has an entry for the route that the framework would choose."""

from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Match, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from identity_client.http_policy import WEBSOCKET, HttpPolicy, find, routes_of
from identity_client.policy import PolicyError, public

PATHS = ("/a", "/a/{x}", "/a/b", "/{x}", "/{x:int}", "/{p:path}", "/a/{x}/c", "/f/{x:float}", "/u/{x:uuid}")
TEXTS = st.sampled_from(["a", "b", "c", "1", "1.5", "f", "u", "\n", "", "a\n", "00" * 16])
METHODS = st.sampled_from(["GET", "HEAD", "POST", "DELETE"])


async def endpoint(*_: Any) -> None:
    """Stand for an endpoint; nothing calls it."""


class Endpoint(HTTPEndpoint):
    pass


ROUTES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(PATHS), st.sampled_from(["GET", "POST", "DELETE", WEBSOCKET])),
        st.tuples(st.sampled_from(PATHS), st.just("")),
    ),
    unique=True,
    max_size=6,
)


def route_of(path: str, method: str) -> Route | WebSocketRoute:
    if method == WEBSOCKET:
        return WebSocketRoute(path, endpoint)
    return Route(path, endpoint, methods=[method]) if method else Route(path, Endpoint)


@given(ROUTES, st.lists(TEXTS, max_size=3), METHODS | st.just(WEBSOCKET))
def test_it_finds_the_entry_of_the_route_that_starlette_finds(
    kinds: list[tuple[str, str]], parts: list[str], method: str
) -> None:
    routes = [route_of(path, kind) for path, kind in kinds]
    # Each route's scope is its place, so that it shows which route was found.
    policy = HttpPolicy("shop", {f"{kind} {path}".strip(): [f"s{n}"] for n, (path, kind) in enumerate(kinds)})
    app = Starlette(routes=routes)
    path = "/" + "/".join(parts)
    is_websocket = method == WEBSOCKET
    scope = {"type": "websocket" if is_websocket else "http", "path": path, "method": method}

    found = find(policy.table(routes_of(app)), method, path)

    chosen = next((n for n, route in enumerate(routes) if route.matches(scope)[0] is Match.FULL), None)
    if chosen is None:
        assert found is None
    else:
        path_of, kind = kinds[chosen]
        # An entry that names the method replaces the one of its path alone, and HEAD follows from GET.
        allowed = [f"s{n}" for n, each in enumerate(kinds) if each in {(path_of, kind), (path_of, method)}]
        allowed += [f"s{n}" for n, each in enumerate(kinds) if method == "HEAD" and each == (path_of, "GET")]
        assert found is not None
        assert found.scopes[0] in allowed


def test_the_routes_of_mounts_and_of_included_routers_have_their_whole_paths() -> None:
    router = APIRouter(prefix="/v1")
    router.add_api_route("/reports/{id}", endpoint, methods=["GET"])
    inner = APIRouter(prefix="/deep")
    inner.add_api_route("/x", endpoint, methods=["POST"])
    router.include_router(inner)
    app = FastAPI(openapi_url=None)
    app.include_router(router)
    app.add_api_websocket_route("/ws", endpoint)
    app.mount("/static", StaticFiles(directory="."))
    app.mount("/sub", Starlette(routes=[Mount("/more", routes=[Route("/y", endpoint)])]))

    found = {(route.path, route.methods) for route in routes_of(app) or ()}

    get = frozenset({"GET", "HEAD"})
    assert found == {
        ("/v1/reports/{id}", frozenset({"GET"})),
        ("/v1/deep/x", frozenset({"POST"})),
        ("/ws", frozenset({WEBSOCKET})),
        ("/static/{path:path}", None),
        ("/static/{path:path}", frozenset({WEBSOCKET})),
        ("/sub/more/y", get),
        ("/sub/more/{path:path}", None),
        ("/sub/{path:path}", None),
    }


def test_a_route_whose_path_depends_on_the_host_is_refused() -> None:
    with pytest.raises(PolicyError, match="Host among the routes"):
        routes_of(Starlette(routes=[Host("a.example", Router(), name="a")]))


@pytest.mark.parametrize("key", ["GET", "get /a", "GET  /a", "GET a", "/a b", "GET,POST /a", ""])
def test_a_key_that_is_no_route_is_refused(key: str) -> None:
    with pytest.raises(PolicyError, match="is not a route"):
        HttpPolicy("shop", {key: []})


def test_an_entry_that_is_not_acceptable_is_refused() -> None:
    with pytest.raises(PolicyError, match="unknown kind, slug"):
        HttpPolicy("shop", {"/{x:slug}": []})
    with pytest.raises(PolicyError, match=r"GET /a: scopes must be a list"):
        HttpPolicy("shop", {"GET /a": "read"})


def respond(_: Any) -> PlainTextResponse:
    return PlainTextResponse("")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["GET /a", "/b"], ""),
        (["/a", "POST /b", "PUT /b", "/b", "HEAD /a"], ""),
        (["/b"], "no entry for GET /a: name the scopes"),
        (["GET /a"], "no entry for /b: name the scopes"),
        (["GET /a", "POST /b"], "no entry for /b: name the scopes"),
        (["GET /a", "/b", "/c", "PUT /a"], "no route of the application matches /c, PUT /a$"),
        (["GET /a", "/b", "WEBSOCKET /b"], "matches WEBSOCKET /b$"),
    ],
)
def test_each_route_needs_an_entry_and_each_entry_a_route(keys: Sequence[str], message: str) -> None:
    app = Starlette(routes=[Route("/a", respond), Route("/b", Endpoint)])
    policy = HttpPolicy("shop", dict.fromkeys(keys, public()))

    if not message:
        policy.check(routes_of(app) or ())
    else:
        with pytest.raises(PolicyError, match=message):
            policy.check(routes_of(app) or ())


def test_without_known_routes_the_first_entry_that_matches_counts() -> None:
    policy = HttpPolicy(
        "shop", {"GET /a/b": ["1"], "/a/{x}": ["2"], "WEBSOCKET /ws": ["3"], "/{p:path}": ["4"]}
    )
    table = policy.table(None)

    found = [
        find(table, method, path)
        for method, path in (
            ("GET", "/a/b"),
            ("HEAD", "/a/b"),
            ("POST", "/a/b"),
            (WEBSOCKET, "/a/b"),
            (WEBSOCKET, "/ws"),
            ("GET", "/ws"),
        )
    ]
    assert [each.scopes[0] for each in found if each is not None] == ["1", "1", "2", "2", "3", "4"]
    assert find(HttpPolicy("shop", {"GET /a": []}).table(None), "POST", "/a") is None


def test_a_path_that_no_route_of_a_mount_matches_has_no_entry_of_a_later_route() -> None:
    """Starlette gives such a path to the mounted application, whose middleware may answer it."""
    inner = Starlette(routes=[Route("/a", respond)])
    app = Starlette(routes=[Mount("/api", inner), Route("/{page:path}", respond)])
    policy = HttpPolicy("shop", {"/api/a": ["1"], "/{page:path}": ["2"]})
    policy.check(routes_of(app) or ())
    table = policy.table(routes_of(app))

    found = [find(table, "GET", path) for path in ("/api/a", "/apia", "/api", "/api/b", "/api/")]
    assert [each and each.scopes for each in found] == [("1",), ("2",), ("2",), None, None]
    assert find(table, WEBSOCKET, "/api/a") is None


def test_a_mount_whose_prefix_may_have_any_number_of_parts_is_refused() -> None:
    """Inner routes match the rest of the path, which the guard cannot know for such a prefix."""
    mount = Mount("/{p:path}", routes=[Route("/x/y", respond), Route("/y", respond)])

    with pytest.raises(PolicyError, match=r"of the mount /\{p:path}"):
        routes_of(Starlette(routes=[mount]))
