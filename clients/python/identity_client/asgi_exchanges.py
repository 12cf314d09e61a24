"""The exchanges between an ASGI server and an application: HTTP requests and websockets that a token may end.

They know the messages of ASGI, and how a refusal is told to the client (RFC 6750).
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import grpc

from identity_client.async_calls import AsyncOpenCall
from identity_client.refusal import REJECTION_REASON, RETRY_AFTER, RefusedError, failed
from identity_shared.token_ids import ID_SHA256

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log: Final = logging.getLogger("identity_client.guard")
_STATUS: Final = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_POLICY_VIOLATION: Final = 1008
"""The close code of a websocket whose token is refused (RFC 6455 section 7.4.1)."""
_HTTP_RESPONSE: Final = "websocket.http.response"
"""The ASGI extension with which the handshake of a websocket can be refused by any response."""
_NOT_IN_DESCRIPTION: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""The characters that no value of a challenge may contain (RFC 6750 section 3)."""


class Exchange:
    """One request or websocket between the client and the application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive_from_client = receive
        self.send_to_client = send
        self.call: AsyncOpenCall | None = None
        self.open: Callable[[], object] = failed
        """Adds the call to the open ones. Raises RefusedError."""
        self.check_token: Callable[[], object] = failed
        """Raises RefusedError if the token of a call that is not open is refused by now."""

    async def begin(self) -> None:
        """Do what comes before the application. Raises RefusedError."""

    async def receive(self) -> Message:
        """Receive a message for the application."""
        return await self.receive_from_client()

    async def send(self, message: Message) -> None:
        """Send a message of the application. Raises RefusedError after the token has ended the call."""
        raise NotImplementedError

    async def refuse(self, refusal: RefusedError) -> None:
        """Tell the client about the refusal, if that is still possible."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise the RefusedError if the token has ended the call."""
        if self.call is not None:
            self.call.check()


class HttpRequest(Exchange):
    """An HTTP request. It counts as open from the first part of a response that has several."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._has_started = False
        self._is_open = False

    async def receive(self) -> Message:
        """Receive a part of the request. Raises RefusedError if the token was revoked or has expired.

        A client may send the body of a request long after its headers.
        """
        message = await self.receive_from_client()
        if message["type"] == "http.request" and self.call is not None and not self.call.done:
            self.check()
            self.check_token()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; see `Exchange.send`."""
        self.check()
        if message["type"] == "http.response.start":
            self._has_started = True
        elif message.get("more_body") and not self._is_open and self.call is not None:
            self._is_open = True
            try:
                self.open()
            except RefusedError as refusal:
                self.call.refuse(refusal)
                raise
        await self.send_to_client(message)
        if self._is_open and self.call is not None and not message.get("more_body"):
            self.call.done = True  # what the application does now is not part of the call

    async def refuse(self, refusal: RefusedError) -> None:
        """Answer with the refusal, unless the response has begun."""
        if self._has_started:
            # The response stays incomplete, so that its client does not take the part for the whole.
            _log.info("a response was cut off: %s", refusal.reason)
            return
        status, headers, body = _response(refusal)
        await self.send_to_client({"type": "http.response.start", "status": status, "headers": headers})
        await self.send_to_client({"type": "http.response.body", "body": body})


class Websocket(Exchange):
    """A websocket. It is open from the beginning."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._has_connected = False
        self._was_accepted = False
        self._is_over = False

    async def begin(self) -> None:
        """Count the websocket as open. Raises RefusedError."""
        self.open()

    async def receive(self) -> Message:
        """Receive a message. Raises RefusedError if the token has ended the call, also meanwhile."""
        self.check()
        message = await self.receive_from_client()
        self._has_connected = True
        self._is_over |= message["type"] == "websocket.disconnect"
        self.check()
        return message

    async def send(self, message: Message) -> None:
        """Send a message; see `Exchange.send`."""
        self.check()
        self._was_accepted |= message["type"] == "websocket.accept"
        self._is_over |= message["type"] not in ("websocket.accept", "websocket.send")
        await self.send_to_client(message)

    async def refuse(self, refusal: RefusedError) -> None:
        """Refuse the handshake, or close the websocket with code 1008, unless it has been closed."""
        if self._is_over:
            return
        if not self._has_connected:
            await self.receive_from_client()
        status, headers, body = _response(refusal)
        if not self._was_accepted and _HTTP_RESPONSE in (self.scope.get("extensions") or {}):
            start = f"{_HTTP_RESPONSE}.start"
            await self.send_to_client({"type": start, "status": status, "headers": headers})
            await self.send_to_client({"type": f"{_HTTP_RESPONSE}.body", "body": body})
            return
        close = {"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.reason}
        await self.send_to_client(close)


def _response(refusal: RefusedError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, headers and body with which a request is refused."""
    body = json.dumps({"reason": refusal.reason, "detail": str(refusal)}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    challenge = _challenge(refusal)
    if challenge:
        headers["www-authenticate"] = challenge
    if refusal.code is grpc.StatusCode.UNAVAILABLE:
        headers["retry-after"] = str(int(RETRY_AFTER.total_seconds()))
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return _STATUS.get(refusal.code, 500), encoded, body


def _challenge(refusal: RefusedError) -> str:
    """Return the value of `WWW-Authenticate` (RFC 6750 section 3); empty if another token would not help."""
    items: dict[str, str] = {}
    if refusal.reason == "CALLER_SCOPE_MISSING":
        items = {"error": "insufficient_scope", "scope": " ".join(refusal.scopes)}
    elif refusal.code is not grpc.StatusCode.UNAUTHENTICATED:
        return ""
    elif REJECTION_REASON in refusal.metadata:
        items = {"error": "invalid_token"}
    if items:
        items["error_description"] = _NOT_IN_DESCRIPTION.sub("?", str(refusal))
    if ID_SHA256 in refusal.metadata:
        items[ID_SHA256] = refusal.metadata[ID_SHA256]
    values = ", ".join(f'{name}="{value}"' for name, value in items.items())
    return f"Bearer {values}".strip()
