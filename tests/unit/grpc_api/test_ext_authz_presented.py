"""The places in which ext_authz looks for the token of a request behind a gateway."""

import pytest

from identity_service.grpc_api.ext_authz import presented
from identity_service.grpc_api.ext_authz.presented import bearer_token
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import AttributeContext


def test_a_long_query_costs_no_decoding_of_each_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def decode(name: str) -> str:
        decoded.append(name)
        return name

    monkeypatch.setattr(presented, "unquote_plus", decode)
    http = AttributeContext.HttpRequest(
        headers={"authorization": "Bearer x"}, path="/?" + "&a=b" * 10_000 + "&the-longer-name=c"
    )

    assert bearer_token(http) == "x"
    assert decoded == ["the-longer-name"]
