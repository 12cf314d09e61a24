"""Binding of tokens to the client certificate of a connection (RFC 8705 section 3). Issues no token.

Any certificate that an accepted client CA has signed will do: the binding proves that later calls come from
the holder of the same certificate, not which client that is.
"""

from identity_service.domain.errors import BindingRequiredError
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.principals import Client
from identity_service.domain.sessions import Session
from identity_service.services.authenticate import ClientCertificate, ClientCredential, Password


def bind(
    client: Client, credential: ClientCredential | Password, certificate: PeerCertificate | None
) -> bytes | None:
    """Return the SHA-256 of the certificate that new tokens are bound to; None = they are not bound.

    Tokens are bound if the client requires it, or if the certificate was its credential. Raises
    BindingRequiredError if they must be bound and the connection has no certificate.
    """
    if not (client.require_binding or isinstance(credential, ClientCertificate)):
        return None
    if certificate is None:
        raise BindingRequiredError
    return certificate.sha256


def rebind(
    session: Session, client: Client, credential: ClientCredential | None, certificate: PeerCertificate | None
) -> bytes | None:
    """Return the SHA-256 of the certificate that the next access token of a session is bound to, or None.

    It is the certificate of the session, or another one if the client has just authenticated with it, since
    certificates are renewed more often than users sign in (RFC 8705 section 7.1).

    Raises BindingRequiredError if the connection has no such certificate.
    """
    bound = session.certificate_sha256
    if bound is None and not client.require_binding:
        return None
    if certificate is not None and (isinstance(credential, ClientCertificate) or certificate.sha256 == bound):
        return certificate.sha256
    raise BindingRequiredError
