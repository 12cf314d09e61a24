"""A gateway that asks the service through Envoy's ext_authz protocol whether a request may pass.

The module asserts nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from identity_service.grpc_api.ext_authz.wire.auth_pb2 import CheckRequest, CheckResponse
from tests.rpc.world import API, World

METHOD = "/envoy.service.auth.v3.Authorization/Check"
ROUTE = {"audience": API}


@dataclass(frozen=True)
class Decision:
    """The answer of ext_authz about one request."""

    response: CheckResponse

    @property
    def status(self) -> int:
        """The HTTP status with which the request is refused; 200 if it may pass."""
        allowed = self.response.WhichOneof("http_response") == "ok_response"
        return 200 if allowed else int(self.response.denied_response.status.code)

    @property
    def upstream_headers(self) -> dict[str, str]:
        """The headers that the gateway adds to the request before it passes the request on."""
        return {each.header.key: each.header.value for each in self.response.ok_response.headers}

    @property
    def removed(self) -> set[str]:
        return set(self.response.ok_response.headers_to_remove)

    @property
    def challenge(self) -> str:
        (found,) = self.response.denied_response.headers
        assert found.header.key == "www-authenticate"
        return found.header.value


class Gateway:
    """A client of ext_authz that sends requests as Envoy does. The names of the headers are in lower case."""

    def __init__(self, world: World, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._call: Any = world.channel.unary_unary(
            METHOD,
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )
        self._metadata = tuple(metadata)

    def decide(
        self,
        token: str | None = None,
        *,
        route: Mapping[str, str] = ROUTE,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        certificate: str = "",
        **http: Any,
    ) -> Decision:
        """Return the answer about an HTTP request with this bearer token and these properties."""
        sent = dict(headers or {}) | ({"authorization": f"Bearer {token}"} if token is not None else {})
        request = CheckRequest()
        request.attributes.context_extensions.update(route)
        request.attributes.source.certificate = quote(certificate, safe="")
        request.attributes.request.http.MergeFrom(
            type(request.attributes.request.http)(headers=sent, path=path, **http)
        )
        return Decision(self._call(request, metadata=self._metadata))
