"""Token requests that a client sends again, byte for byte (services/repeated_issue.py)."""

from hashlib import blake2b
from typing import Final

from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.oauth.answers import token_response
from identity_service.http_api.oauth.proofs import HEADER as DPOP
from identity_service.services.repeated_issue import RepeatedIssue

_READ: Final = ("authorization", "content-type")
"""The headers that the token endpoint reads, beside that of a DPoP proof."""
_KIND: Final = b"oauth2/token"
"""Distinguishes the digests from those of other kinds of requests."""


def digest_of(request: HttpRequest) -> bytes | None:
    """Return a digest of all that decides a token request; None if the request is not to be recognised.

    That is so if it has a DPoP proof, which is another one each time, or comes with a client certificate.
    """
    if request.method != "POST" or request.query or DPOP in request.headers or request.origin.certificate:
        return None
    digest = blake2b(person=_KIND)
    for name in _READ:
        values = request.headers.get(name, ())
        digest.update(b"%d;" % len(values))
        for value in values:
            encoded = value.encode("utf-8", "surrogatepass")
            digest.update(b"%d;%b" % (len(encoded), encoded))
    digest.update(request.body)
    return digest.digest()


def repeated_response(request: HttpRequest, repeated: RepeatedIssue) -> HttpResponse | None:
    """Return the response with new tokens if an equal request was granted before; None = decide it.

    Raises UnavailableError and InvalidRequestError as `RepeatedIssue.issue` does.
    """
    digest = digest_of(request)
    if digest is None or (known := repeated.find(digest)) is None:
        return None
    tokens = repeated.issue(known, request.origin.peer, request.origin.request_id)
    return None if tokens is None else token_response(tokens)
