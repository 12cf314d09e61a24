"""The principals around a service in a test against the model: a user, two clients and an administrator.

The module makes their calls, and returns each answer or the reason of the refusal. It does not know which
answer is right, and asserts only that a refusal has one of the status codes of the contract.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import grpc

from identity_service.domain.ids import FIRST_PARTY_CLIENT, SessionId
from identity_service.domain.principals import Client, OnReuse
from identity_service.domain.sessions import Session as SessionRecord
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc import model
from tests.rpc.world import API, World, failure, password

Answer = TypeVar("Answer")
Thing = TypeVar("Thing")
REFUSALS: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE})


@dataclass(eq=False)
class Issued:
    """An access token as its client has it, and the same token in the model."""

    text: str
    token_id: str
    token: model.Token


@dataclass(eq=False)
class SignedIn:
    """A session as its client has it, with the text of every refresh token by number."""

    session: model.Session
    session_id: SessionId
    by_portal: bool
    texts: dict[int, str]
    before: list[tuple[SessionRecord, model.Chain]] = field(default_factory=list)
    """The session in the store and in the model, as they were before each rotation of the refresh token."""

    def number(self, back: int) -> int:
        """Return the number of the token issued `back` tokens before the newest, or of the oldest one."""
        return pick(sorted(self.texts), back)

    def forget_rotations(self, world: World, rotations: int) -> None:
        """Undo the last rotations in the store and in the model, as a failover of the store can lose them.

        If the session had fewer rotations, all of them are undone.
        """
        state = world.store.sessions.read(self.session_id)
        if state is not None and self.before and rotations:
            del self.before[max(1, len(self.before) - rotations + 1) :]
            record, self.session.chain = self.before.pop()
            assert world.store.sessions.replace(record, expected_version=state.version)


class Parties:
    """The principals of a test. They are created once on a new store, and outlive restarts of the service.

    Each method therefore takes the `World` of the process that it calls.
    """

    def __init__(self, world: World) -> None:
        self.user = world.new_user()
        self.client = world.new_client()
        self.portal = world.new_confidential_app()
        found = world.store.records.get(Client, self.portal.id)
        assert found is not None
        spared = replace(found.record, on_reuse=OnReuse.REFUSE)
        world.store.records.update(spared, expected=found.revision)
        self._admin_token = ""

    def principals(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return the id of each principal, and the target with which Revoke revokes everything of it."""
        return {
            "user": (self.user.id, {"subject": self.user.id}),
            "client": (self.client.id, {"client_id": self.client.id}),
            "portal": (self.portal.id, {"client_id": self.portal.id}),
            "first-party": (FIRST_PARTY_CLIENT, {"client_id": FIRST_PARTY_CLIENT}),
            "everything": (model.EVERYTHING, {"everything": True}),
        }

    def app(self, by_portal: bool) -> str:
        return self.portal.id if by_portal else FIRST_PARTY_CLIENT

    def issue(self, world: World) -> token_pb2.TokenSet | str:
        return attempt(lambda: world.issue(self.client))

    def sign_in(self, world: World, *, by_portal: bool) -> token_pb2.TokenSet | str:
        credential = self.user.credential
        if by_portal:
            secret = self.portal.credential.client_secret.client_secret
            credential = password("ana", client_id=self.portal.id, secret=secret)
        request = pb.IssueRequest(credential=credential, audiences=[API])
        return attempt(lambda: world.stub.Issue(request).token_set)

    def refresh(self, world: World, held: SignedIn, number: int) -> token_pb2.TokenSet | str:
        fields = {"client_credential": self.portal.credential} if held.by_portal else {}
        return attempt(lambda: world.refresh(held.texts[number], **fields))

    def renew_admin_token(self, world: World) -> None:
        """Get a new token of the administrator.

        The service can issue it without the store unless it is stale.
        """
        self._admin_token = world.admin_token()

    def revoke(self, world: World, *, as_admin: bool = True, **target: Any) -> str:
        """Revoke a target; return the reason of the refusal, or "" if the revocation was confirmed."""
        caller = self._admin_token if as_admin else None
        revision_or_reason = attempt(lambda: (world.revoke(caller, **target),))
        return revision_or_reason if isinstance(revision_or_reason, str) else ""


def pick(those: Sequence[Thing], which: int) -> Thing:
    """Return the element `which` places before the last one, or the first one if there are fewer."""
    return those[max(0, len(those) - 1 - which)]


def verify(world: World, text: str) -> str:
    """Return the reason why Verify rejects the token, or why the call failed; "" if the token is valid."""
    return attempt(lambda: world.reason(text))


def verify_batch(world: World, texts: Iterable[str]) -> list[str]:
    """Return for each token why VerifyBatch rejects it, or why the call failed; "" if it is valid.

    There must be at least one token.
    """
    requests = [pb.VerifyRequest(token=text, audiences=[API]) for text in texts]
    answer = attempt(lambda: world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=requests)))
    if isinstance(answer, str):
        return [answer] * len(requests)
    names = pb.RejectionReason.Name
    return [
        names(one.rejected.reason).removeprefix("REJECTION_REASON_") if one.HasField("rejected") else ""
        for one in answer.responses
    ]


def attempt(call: Callable[[], Answer]) -> Answer | str:
    """Return the answer of a call, or the reason with which it was refused."""
    try:
        return call()
    except grpc.RpcError as error:
        found = failure(error)
        assert found.code in REFUSALS, found
        return found.reason
