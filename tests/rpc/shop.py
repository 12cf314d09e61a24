"""An example of token exchange: a user calls `orders` via `portal`, and `orders` calls `stock` for the user.

The module asserts nothing.
"""

from typing import Any

from identity_service.domain.principals import Grant
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.world import Principal, World

ORDERS_API, STOCK_API = "orders-api", "stock-api"
EXCHANGES = frozenset({Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE})


class Shop:
    """The user ana, the clients `portal`, `orders` and `stock`, and the calls that they make."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ana = self.new_person("ana")
        self.portal = self.new_app("portal")
        self.orders = world.new_client(
            "orders",
            grants=EXCHANGES,
            audiences=(STOCK_API,),
            scopes=("read", "write"),
            exchange_audiences=(ORDERS_API,),
        )
        self.stock = world.new_client(
            "stock",
            grants=EXCHANGES,
            audiences=("ship-api",),
            scopes=("read",),
            exchange_audiences=(STOCK_API,),
        )

    def new_person(self, username: str) -> Principal:
        return self.world.new_user(username, audiences=(ORDERS_API, STOCK_API), scopes=("read", "write"))

    def new_app(self, client_id: str) -> Principal:
        """Return a new client through which users sign in."""
        return self.world.new_confidential_app(
            client_id, audiences=(ORDERS_API, STOCK_API), scopes=("read", "write")
        )

    def sign_in(
        self,
        person: Principal | None = None,
        app: Principal | None = None,
        audience: str = ORDERS_API,
        **wanted: Any,
    ) -> token_pb2.TokenSet:
        app = app or self.portal
        credential = token_pb2.Credential()
        credential.CopyFrom((person or self.ana).credential)
        credential.password.client_id = app.id
        credential.password.client_secret = app.credential.client_secret.client_secret
        request = pb.IssueRequest(credential=credential, audiences=[audience], **wanted)
        return self.world.stub.Issue(request).token_set

    def exchange(self, subject: str, by: Principal | None = None, **wanted: Any) -> token_pb2.TokenSet:
        return self.world.issue(by or self.orders, subject_token=subject, **wanted)

    def why(self, token: str) -> str:
        """Return the reason why Verify rejects the token for any audience, or "" if the token is valid."""
        return self.world.reason(token, audiences=[], any_audience=True)

    def whys(self, *tokens: str) -> list[str]:
        """Return why VerifyBatch rejects each token for any audience, or "" if the token is valid."""
        asked = [pb.VerifyRequest(token=token, any_audience=True) for token in tokens]
        answers = self.world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=asked)).responses
        name = pb.RejectionReason.Name
        return [
            "" if one.HasField("verified") else name(one.rejected.reason).removeprefix("REJECTION_REASON_")
            for one in answers
        ]
