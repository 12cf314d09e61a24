"""Calls an ASGI application as a server does. The module asserts nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from identity_service.http_api.app import HttpApp


@dataclass
class Reply:
    """The response that an application has sent."""

    events: list[Any] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.events[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.events[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(event["body"] for event in self.events[1:])


async def ask(
    app: HttpApp,
    path: str = "/",
    *,
    method: str = "POST",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: Sequence[bytes] = (b"",),
    client: tuple[str, int] | None = ("192.0.2.1", 5000),
    complete: bool = True,
    version: str = "1.1",
) -> Reply:
    """Send one request, its body in these parts; without `complete`, the last part says that more follows."""
    scope = {
        "type": "http",
        "http_version": version,
        "method": method,
        "path": path,
        "query_string": b"q=1",
        "headers": list(headers),
        "client": client,
    }
    parts = list(body)
    reply = Reply()

    async def receive() -> dict[str, Any]:
        if parts:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts) or not complete}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(event: Any) -> None:
        reply.events.append(event)

    await app(scope, receive, send)
    return reply
