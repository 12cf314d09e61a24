"""The conversion of issued tokens to protobuf messages."""

from datetime import UTC, datetime

import pytest

from identity_service.domain.ids import TokenId
from identity_service.domain.tokens import TokenType
from identity_service.grpc_api.issue import from_token_set
from identity_service.services.token_maker import TokenSet


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
def test_the_end_of_a_refresh_token_is_given_exactly(microsecond: int) -> None:
    end = datetime(2100, 2, 3, 4, 5, 6, microsecond, UTC)
    tokens = TokenSet(
        access_token="a.b.c",
        token_type=TokenType.BEARER,
        issue_time=datetime(2100, 1, 1, tzinfo=UTC),
        expire_time=datetime(2100, 1, 2, tzinfo=UTC),
        refresh_token="idrt_x",
        refresh_expire_time=end,
        audiences=("api",),
        scopes=(),
        token_id=TokenId("j"),
    )

    assert from_token_set(tokens).refresh_expire_time.ToDatetime(UTC) == end
