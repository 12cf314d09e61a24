"""Binding: whether tokens are bound to the certificate of a connection (RFC 8705 section 3). Issues none.

The certificate may be anybody's whom a client authority vouches for: binding proves that later calls
come from whoever made this one, not who that is.
"""

from identity_service.domain.errors import BindingRequiredError
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.principals import Client
from identity_service.domain.sessions import Session
from identity_service.services.authenticate import ClientCertificate, ClientCredential, Password


def bind(
    client: Client, credential: ClientCredential | Password, certificate: PeerCertificate | None
) -> bytes | None:
    """The certificate that new tokens of the client are bound to, or None where they are bound to none.

    Raises BindingRequiredError: the client's must be, and the connection has no certificate.
    """
    if not (client.require_binding or isinstance(credential, ClientCertificate)):
        return None
    if certificate is None:
        raise BindingRequiredError
    return certificate.sha256


def rebind(
    session: Session, client: Client, credential: ClientCredential | None, certificate: PeerCertificate | None
) -> bytes | None:
    """The certificate that the next access token of a session is bound to; `bind` said so of the first one.

    The same as before, or another one of a client that has just proven itself with it: certificates are
    renewed more often than people sign in (RFC 8705 section 7.1).

    Raises BindingRequiredError: the connection shows no such certificate.
    """
    bound = session.certificate_sha256
    if bound is None and not client.require_binding:
        return None
    if certificate is not None and (isinstance(credential, ClientCertificate) or certificate.sha256 == bound):
        return certificate.sha256
    raise BindingRequiredError
