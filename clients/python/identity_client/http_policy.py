"""The access policy of an HTTP application: the token that the requests of each route must present.

policy = HttpPolicy("reports", {
    "GET /reports/{id}": ["reports.read"],
    "DELETE /reports/{id}": ["reports.admin"],
    "WEBSOCKET /changes": ["reports.read"],
    "GET /health": public(),
})

Routes are written as Starlette and FastAPI write them. The module imports no framework.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from identity_client.policy import ASK, REFUSE, Access, OnStale, PolicyError, Requirement, complete

WEBSOCKET: Final = "WEBSOCKET"
"""The method of the entries for websockets."""
_KEY: Final = re.compile(r"(?:([A-Z]+) )?(/\S*)")
_PARAMETER: Final = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_][a-zA-Z0-9_]*))?}")
_CONVERTORS: Final = {
    "str": "[^/]+",
    "path": ".*",
    "int": "[0-9]+",
    "float": r"[0-9]+(?:\.[0-9]+)?",
    "uuid": "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}",
}
"""The expressions of Starlette's path convertors. The same text must match the same routes here as there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of an application."""

    path: str
    """The path with its parameters, as `/reports/{id}`."""
    methods: frozenset[str] | None
    """The methods, among them `WEBSOCKET` if it takes websockets; None = all methods of HTTP."""
    is_rest: bool = False
    """True for what no route of a mount matches: no entry holds for it, not even that of a later route."""


Row = tuple[re.Pattern[str], frozenset[str] | None, Requirement | None]
"""The expression of a path, the methods as in `Route`, and the requirement (None = requests are refused)."""


class HttpPolicy:
    """The access policy of an HTTP application. It does not change after it was made."""

    def __init__(self, audience: str, routes: Mapping[str, Access], *, on_stale: OnStale = REFUSE) -> None:
        """Create a policy.

        Args:
            audience: the audience of this application, which tokens must be for (`aud`).
            routes: the entry of each route: its scopes as a list, `public()` or `requires(...)`. A key is a
                path with a method before it, such as `GET /reports/{id}`, or a path alone for all methods and
                websockets. `WEBSOCKET /path` is for a websocket. An entry for GET holds for HEAD as well. An
                entry with a method replaces the one of its path alone.
            on_stale: the treatment of requests while the verifier is stale, for entries that do not name it.

        Raises PolicyError.
        """
        self._entries: dict[tuple[str, str], Requirement] = {}
        """A map from methods ("" = all) and paths to requirements."""
        for key, access in routes.items():
            match = _KEY.fullmatch(key)
            if match is None:
                raise PolicyError(
                    f"{key!r} is not a route: write a path, or a method and a path: 'GET /reports'"
                )
            try:
                expression(match[2])
                self._entries[match[1] or "", match[2]] = complete(access, audience, on_stale)
            except PolicyError as error:
                raise PolicyError(f"{key}: {error}") from None

    @property
    def asks(self) -> bool:
        """Return whether a request is to be decided by the service while the verifier is stale (`ASK`)."""
        return any(entry.on_stale is ASK for entry in self._entries.values())

    def table(self, routes: Collection[Route] | None) -> list[Row]:
        """Return the rows in the order in which they are compared with a request; the first match counts.

        They are those of the application's routes, or, if these are not known (None), of the entries.
        """
        if routes is None:
            routes = [route for method, path in self._entries for route in _routes_of_entry(method, path)]
        rows: list[Row] = []
        for route in routes:
            pattern = expression(route.path)
            if route.is_rest:
                rows += [(pattern, None, None), (pattern, frozenset((WEBSOCKET,)), None)]
                continue
            named = {method for method, path in self._entries if path == route.path} - {"", WEBSOCKET}
            if "GET" in named:
                named.add("HEAD")
            rows += (
                (pattern, frozenset((method,)), self._entry(method, route.path))
                for method in sorted(named if route.methods is None else route.methods)
            )
            if route.methods is None:
                rows.append((pattern, None, self._entries.get(("", route.path))))
        return rows

    def check(self, routes: Iterable[Route]) -> None:
        """Raise PolicyError, which names each route without an entry and each entry without a route."""
        without: list[str] = []
        used: set[tuple[str, str]] = set()
        for route in (each for each in routes if not each.is_rest):
            methods = {""} if route.methods is None else route.methods
            for method in sorted(methods):
                used |= {(method, route.path), ("", route.path)}
                # A route for GET takes HEAD as well, and so does the entry: one name is enough.
                if self._entry(method, route.path) is None and not (method == "HEAD" and "GET" in methods):
                    without.append(f"{method} {route.path}".strip())
            if route.methods is None:
                used |= {key for key in self._entries if key[1] == route.path and key[0] != WEBSOCKET}
        unused = [f"{method} {path}".strip() for method, path in self._entries if (method, path) not in used]
        if without:
            names = ", ".join(without)
            raise PolicyError(
                f"the access policy has no entry for {names}: name the scopes of each, or public()"
            )
        if unused:
            raise PolicyError(f"no route of the application matches {', '.join(unused)}")

    def _entry(self, method: str, path: str) -> Requirement | None:
        # HEAD follows from GET, unless it has an entry of its own.
        named = (method, "GET", "") if method == "HEAD" else (method, "")
        return next((self._entries[name, path] for name in named if (name, path) in self._entries), None)


def find(table: Iterable[Row], method: str, path: str) -> Requirement | None:
    """Return the requirement of a request; None if it has none."""
    for pattern, methods, requirement in table:
        takes = method != WEBSOCKET if methods is None else method in methods
        if takes and pattern.match(path):
            return requirement
    return None


def expression(path: str) -> re.Pattern[str]:
    """Return the expression that matches the same paths as Starlette's. Raises PolicyError."""
    text, end = "^", 0
    for match in _PARAMETER.finditer(path):
        kind = match[2] or "str"
        if kind not in _CONVERTORS:
            raise PolicyError(f"{path} has a parameter of an unknown kind, {kind}")
        text += re.escape(path[end : match.start()]) + _CONVERTORS[kind]
        end = match.end()
    return re.compile(f"{text}{re.escape(path[end:])}$")


def _routes_of_entry(method: str, path: str) -> Iterator[Route]:
    """Return the routes that an entry stands for, if the application's own are not known."""
    if method not in ("", WEBSOCKET):
        yield Route(path=path, methods=frozenset({method, *(["HEAD"] if method == "GET" else [])}))
        return
    yield Route(path=path, methods=frozenset((WEBSOCKET,)))
    if not method:
        yield Route(path=path, methods=None)


def routes_of(app: Any) -> list[Route] | None:
    """Return the routes of a Starlette or FastAPI application; None if they are not known.

    Raises PolicyError for a route whose path is not known, such as one that depends on the host.
    """
    routes = getattr(app, "routes", None)
    return None if routes is None else list(_flat(routes, ""))


def _flat(routes: Iterable[Any], prefix: str) -> Iterator[Route]:
    for route in routes:
        if hasattr(route, "effective_route_contexts"):  # the routes of an included router of FastAPI
            contexts = list(route.effective_route_contexts())
            yield from _flat([each.starlette_route or each for each in contexts], prefix)
            continue
        path, inner = getattr(route, "path", None), getattr(route, "routes", None)
        if not isinstance(path, str) or (inner is None and not path.startswith("/")):
            raise PolicyError(
                f"the path of {type(route).__name__} among the routes is not known to the guard"
            )
        if inner:
            if ":path}" in path:
                raise PolicyError(f"the paths of the mount {path} are not known to the guard")
            yield from _flat(inner, prefix + path)
            yield Route(path=f"{prefix}{path}/{{path:path}}", methods=None, is_rest=True)
        elif hasattr(route, "methods"):
            methods = route.methods
            yield Route(path=prefix + path, methods=None if methods is None else frozenset(methods))
        elif inner is not None:  # a mounted application, whose routes are not known
            yield Route(path=f"{prefix}{path}/{{path:path}}", methods=None)
            yield Route(path=f"{prefix}{path}/{{path:path}}", methods=frozenset((WEBSOCKET,)))
        else:
            yield Route(path=prefix + path, methods=frozenset((WEBSOCKET,)))
