"""The answers of a local verifier as short texts, for comparison. The module asserts nothing."""

from datetime import timedelta

from identity_client import LocalVerifier, NotFreshError, Rejected, Verified

HEARTBEAT = timedelta(milliseconds=50)


def said(outcome: Verified | Rejected) -> str:
    return outcome.reason if isinstance(outcome, Rejected) else ""


def not_fresh(verifier: LocalVerifier) -> str:
    try:
        verifier.verify("a.b.c", any_audience=True)
    except NotFreshError as error:
        return str(error)
    return ""
