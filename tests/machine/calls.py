"""The calls of clients and administrators to the processes: they issue and revoke tokens."""

import base64
import json
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from identity_service.domain.ids import EVERYONE, FIRST_PARTY_CLIENT, KeyId, Link, PrincipalId, key_principal
from identity_service.domain.log import Generation
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import identity_service_pb2 as pb
from tests.machine.facts import OF_SESSIONS, OF_TOKENS, Fact, Kind, Token
from tests.machine.parties import Parties, identity
from tests.machine.process import Process, attempt
from tests.patience import PATIENCE
from tests.rpc.world import API

LONG_OVER: Final = 36 * 3600.0
"""Seconds. Revoke has no effect on a token that expired longer ago than this by the clock of the process."""


class Calls(Parties):
    """The parties, with the calls of clients to the processes. A refused call returns None."""

    def issue(self, process: Process, who: str, lifetime: int) -> Token | None:
        """Issue a token of the principal `who`; return None if the process refuses.

        No call is made while records are missing: a client that is refused too often is locked out.
        """
        if self.records_missing:
            return None
        request = pb.IssueRequest(
            credential=self.principals.credentials[who],
            audiences=[] if who == "admin" else [API],
            scopes=["identity.revoke", "identity.admin"] if who == "admin" else [],
            lifetime=Duration(seconds=lifetime),
        )
        now = process.clock.unix()
        answer = attempt(lambda: process.stub.Issue(request, timeout=PATIENCE).token_set)
        if isinstance(answer, str):
            return None
        named = claims_of(answer.access_token).get("gen", {})
        token = Token(
            text=answer.access_token,
            token_id=answer.token_id,
            key_id=key_id_of(answer.access_token),
            session_id=answer.session_id,
            refresh_token=answer.refresh_token,
            generations={p: _generation(named.get(p)) for p in self.principals.principals[who]},
            issue_time=now,
            expire_time=answer.expire_time.ToSeconds(),
            issued=self.step,
        )
        if who != "admin":
            self.tokens.append(token)
        return token

    def revoke(self, process: Process, kind: Kind, token: Token) -> Fact | None:
        """Revoke by means of a token; return the fact if the call is acknowledged and has an effect."""
        covered, id_, target = self._target(kind, token)
        has_effect = kind not in (Kind.TOKEN, Kind.REFRESH_TOKEN) or self._is_opened(process, kind, token)
        bearer = self.issue(process, "admin", 300)
        if bearer is None:
            return None
        if kind is Kind.KEY:
            reason = self._retire(process, bearer.text, token.key_id)
        else:
            reason = process.revoke(bearer.text, **target)
        if reason or not has_effect:
            for one in covered:
                one.doubtful = True
            return None
        generations = process.replica.revocations.generations
        number = 0 if kind in (*OF_TOKENS, *OF_SESSIONS) else generations[PrincipalId(id_)].number
        fact = Fact(
            kind=kind,
            id=id_,
            number=number,
            known={identity(process)},
            ends_refresh=kind in OF_SESSIONS,
        )
        self.facts.append(fact)
        for one in covered:
            if one.is_ahead_of(fact):
                self.took["token of a forgotten history"] += 1
            one.facts.append(fact)
        self.took[f"revoke by {kind}"] += 1
        return fact

    def _target(self, kind: Kind, token: Token) -> tuple[list[Token], str, dict[str, Any]]:
        """Return the tokens that the revocation covers, the id of its fact, and the request's fields."""
        same_session = [t for t in self.tokens if t.session_id == token.session_id]
        subject = next(p for p in reversed(self.principals.principals["user"]) if p != FIRST_PARTY_CLIENT)
        match kind:
            case Kind.TOKEN:
                return [token], token.token_id, {"token": token.text}
            case Kind.TOKEN_ID:
                return [token], token.token_id, {"token_id": token.token_id}
            case Kind.SESSION:
                return same_session, token.session_id, {"session_id": token.session_id}
            case Kind.REFRESH_TOKEN:
                return same_session, token.session_id, {"token": token.refresh_token}
            case Kind.SUBJECT:
                return self._of(subject), subject, {"subject": subject}
            case Kind.CLIENT:
                return self._of(PrincipalId("client")), "client", {"client_id": "client"}
            case Kind.EVERYTHING:
                return list(self.tokens), EVERYONE, {"everything": True}
            case Kind.KEY:
                same_key = [t for t in self.tokens if t.key_id == token.key_id]
                return same_key, key_principal(KeyId(token.key_id)), {}

    def _of(self, principal: PrincipalId) -> list[Token]:
        return [token for token in self.tokens if principal in token.generations]

    def _is_opened(self, process: Process, kind: Kind, token: Token) -> bool:
        """Return whether the process can read the token, so that a revocation by it has an effect.

        The signature of the token must verify, and it must not have expired more than `LONG_OVER` ago.
        """
        if self.records_missing:
            return False
        if kind is Kind.REFRESH_TOKEN:
            return True
        (word,) = process.verify([token.text])
        return word in ("", "EXPIRED", "REVOKED", "NOT_YET_VALID") and (
            process.clock.unix() < token.expire_time + LONG_OVER
        )

    def _retire(self, process: Process, bearer: str, key_id: str) -> str:
        request = admin_pb.RetireKeyRequest(key_id=key_id, reason="a test")
        metadata = (("authorization", f"Bearer {bearer}"),)
        answer = attempt(lambda: process.admin_stub.RetireKey(request, metadata=metadata, timeout=PATIENCE))
        return answer if isinstance(answer, str) else ""


def key_id_of(text: str) -> str:
    """Return the `kid` in the header of a token."""
    found: str = _json_in(text.split(".")[0])["kid"]
    return found


def claims_of(text: str) -> dict[str, Any]:
    """Return the claims of a token without verifying it."""
    return _json_in(text.split(".")[1])


def _json_in(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _generation(text: str | None) -> Generation | None:
    if text is None:
        return None
    number, _, link = text.partition(".")
    return Generation(number=int(number), link=Link(link))
