"""Authentication for the requests of schemathesis, which loads this module because of its setting `hooks`."""

import os
from datetime import UTC, datetime
from typing import Any

import schemathesis

from identity_service.jose.dpop import MAX_PROOF_CHARS
from tests.dpop_proofs import dpop_proof
from tests.jwts import PartyKey

KEY = PartyKey.make()
IN_FORM = {"client_id", "client_secret", "client_assertion", "client_assertion_type"}


@schemathesis.auth()
class ClientSecretBasic:
    """Adds HTTP Basic authentication of a client to each request whose form has no other client credential.

    A request with two credentials would be refused.
    """

    def get(self, case: Any, context: Any) -> str:
        return os.environ["CLIENT_SECRET_BASIC"]

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = dict(case.headers or {})
        case.headers.pop("Authorization", None)
        if not (isinstance(case.body, dict) and IN_FORM & case.body.keys()):
            case.headers["Authorization"] = data
        if len(case.headers.get("DPoP", "x" * MAX_PROOF_CHARS)) < MAX_PROOF_CHARS:
            uri = f"{os.environ['ISSUER']}{case.path}"
            case.headers["DPoP"] = dpop_proof(KEY, datetime.now(UTC), htu=uri)  # random text is not a proof
