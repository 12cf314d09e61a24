"""Words the errors of calls that did not reach the service: the address, the cause, and the remedy.

gRPC reports such a call as UNAVAILABLE or DEADLINE_EXCEEDED with a text of its own, which names no option of
the command line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import grpc

from identity_client import TlsOptions, UnavailableError


@contextmanager
def explained(target: str, tls: TlsOptions | None, patience: timedelta) -> Iterator[None]:
    """Reword an UnavailableError that gRPC itself raises in the block; leave the answers of the service.

    Args:
        target: host:port of the service.
        tls: TLS of the connection; None = none.
        patience: the deadline of each call.
    """
    try:
        yield
    except UnavailableError as error:
        if error.reason or error.request_id:
            raise
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            text = (
                f"the service at {target} did not answer within {patience.total_seconds():.0f} s. It may "
                "still carry out the command: look before you repeat it. Check the address, and the log of "
                "the service"
            )
        else:
            text = _explain(str(error), target, tls)
        raise UnavailableError(text, code=error.code, retry_after=error.retry_after) from error


def _explain(said: str, target: str, tls: TlsOptions | None) -> str:
    """Return the cause and the remedy for a text of gRPC; if it is not known, the text with the address."""
    service = f"the service at {target}"
    if "Connection refused" in said:
        return (
            f"no process listens on {target} (connection refused): start the service, or give its address "
            "with --target (IDENTITY_TARGET)"
        )
    if said.startswith(("errors resolving", "DNS resolution failed")):
        return f"the host in {target} is not known: correct --target (IDENTITY_TARGET), or the name service"
    if "WRONG_VERSION_NUMBER" in said:
        return (
            f"{service} does not use TLS: leave out --tls, --ca and --cert (IDENTITY_TLS, IDENTITY_CA, "
            "IDENTITY_CERT), and give --allow-plaintext if it is on another machine, or set tls_certificate "
            "and tls_key of the service"
        )
    if "CERTIFICATE_VERIFY_FAILED" in said or "Hostname Verification" in said:
        return _explain_certificate(said, service, tls)
    if "Socket closed" in said or "Connection reset" in said:
        return _explain_closed(service, tls)
    return f"cannot reach {service}: {said}"


def _explain_certificate(said: str, service: str, tls: TlsOptions | None) -> str:
    """Return why the client does not accept the certificate of the service."""
    if "certificate has expired" in said:
        return f"the certificate of {service} has expired: replace the file in its setting tls_certificate"
    if "Hostname Verification" in said:
        return (
            f"the certificate of {service} is for other host names: call the service by a name in its "
            "certificate, or give it a certificate for the host in --target (IDENTITY_TARGET)"
        )
    if "issuer certificate" in said or "self signed" in said or "self-signed" in said:
        trusted = (
            f"{tls.ca_file} does not contain" if tls is not None and tls.ca_file else "gRPC does not know"
        )
        return (
            f"the certificate of {service} is from an authority that {trusted}: give the file of that "
            "authority with --ca (IDENTITY_CA)"
        )
    return f"the certificate of {service} is refused: {said}"


def _explain_closed(service: str, tls: TlsOptions | None) -> str:
    """Return the likely cause if the service closed the connection during or instead of a handshake."""
    if tls is None:
        advice = (
            "if it uses TLS, set --tls (IDENTITY_TLS=1), or give the file of its own authority with --ca "
            "(IDENTITY_CA)"
        )
    elif tls.certificate_file is None:
        advice = "if it requires a client certificate, give one with --cert and --key"
    else:
        advice = (
            f"the certificate in {tls.certificate_file} must be one for clients, not expired, from an "
            "authority in the service's tls_client_ca"
        )
    return f"{service} closed the connection: {advice}"
