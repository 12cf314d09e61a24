"""Clients of gRPC-Web: connect-web in Node.js, and one that sends raw bytes. The module asserts nothing."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message

from identityapi.v1 import identity_service_pb2, trust_service_pb2
from tests.http.libraries.programs import answer
from tests.http.site import Answer, Site

ORIGIN = "https://app.example"
IDENTITY = "/identityapi.v1.IdentityService/"


@dataclass(frozen=True, kw_only=True)
class WebClient:
    """A Node.js program that makes calls with connect-web, in the versions that `examples/web` uses."""

    folder: Path

    def call(self, site: Site, service: str, method: str, request: object, **more: object) -> Any:
        """Make one call; return its outcome.

        `more` can have `headers`, `timeoutMs`, and `take`: the number of messages after which a stream is
        cancelled.
        """
        call = {"service": f"identityapi.v1.{service}", "method": method, "request": request} | more
        return self.calls(site, call)[0]

    def calls(self, site: Site, *calls: Mapping[str, object]) -> Any:
        given = {"baseUrl": f"http://{site.target}", "descriptors": descriptors(), "calls": calls}
        return answer(["node", "client.mjs"], given, self.folder)


def descriptors() -> str:
    """Return the proto descriptors of the API in base64. Each file comes after the files that it imports."""
    found: dict[str, Any] = {}

    def add(file: Any) -> None:
        for needed in file.dependencies:
            add(needed)
        found.setdefault(file.name, file)

    add(identity_service_pb2.DESCRIPTOR)
    add(trust_service_pb2.DESCRIPTOR)
    together = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(together.file.add())
    return base64.b64encode(together.SerializeToString()).decode()


def framed(message: Message) -> bytes:
    body = message.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def post(site: Site, method: str, body: bytes, *, text: bool = False, **headers: str) -> Answer:
    """Send one gRPC-Web call with this body, in the binary or the text format; return the HTTP response."""
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    return site.request("POST", IDENTITY + method, body, **({"content_type": kind, "accept": kind} | headers))


def frames(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Return the messages and the trailers in the body of a gRPC-Web response."""
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while body:
        flag, length = body[0], int.from_bytes(body[1:5], "big")
        part, body = body[5 : 5 + length], body[5 + length :]
        if flag & 0x80:
            lines = part.decode().splitlines()
            trailers |= {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        else:
            messages.append(part)
    return messages, trailers


def unarmoured(body: bytes) -> bytes:
    """Decode base64 text that consists of several segments, each of which may have padding."""
    return b"".join(base64.b64decode(body[start : start + 4]) for start in range(0, len(body), 4))
