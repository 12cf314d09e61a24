"""The classes of errors: each one that is raised has a reason that callers find in the documentation."""

import inspect
from collections.abc import Iterator

import pytest

from identity_service.domain import credential_errors, errors
from identity_service.domain.credential_errors import CertificateMissingError, CredentialRefusedError
from identity_service.domain.errors import (
    ConfigurationError,
    FieldViolation,
    IdentityError,
    InvalidRequestError,
    MalformedRequestError,
)
from identityapi.v1 import error_reason_pb2

PREFIX = "ERROR_REASON_"
REASONS = {name.removeprefix(PREFIX) for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118  # no dict

SENT_BY_GUARDS = {"TOKEN_REVOKED", "TOKEN_EXPIRED"}
"""Reasons that only the guards in the clients send; no error of the service has them."""


def _tree(root: type[IdentityError]) -> Iterator[type[IdentityError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


MODULES = (errors, credential_errors)
TREE = [cls for cls in _tree(IdentityError) if cls.__module__ in {module.__name__ for module in MODULES}]
FAMILIES = {cls for cls in TREE if cls.__subclasses__() and "reason" not in vars(cls)}
"""Base classes that are never raised themselves."""
RAISED = [cls for cls in TREE if cls not in FAMILIES]


def _has_fixed_message(cls: type[IdentityError]) -> bool:
    # A missing certificate is the one refusal that says why: the client knows whether it sent one.
    return bool(vars(cls).get("message")) and cls is not CertificateMissingError


def test_the_tree_holds_every_error_of_its_modules() -> None:
    named = [each for module in MODULES for each in vars(module).values()]
    assert {c for c in named if inspect.isclass(c) and issubclass(c, Exception)} == set(TREE)


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_every_reason_is_a_documented_one(cls: type[IdentityError]) -> None:
    assert cls.reason in REASONS - {"UNSPECIFIED"}


@pytest.mark.parametrize("cls", RAISED, ids=lambda cls: cls.__name__)
def test_every_error_that_is_raised_says_more_than_internal(cls: type[IdentityError]) -> None:
    """INTERNAL stands for a bug.

    The errors of wrong settings are exempt: they end the start and reach no caller.
    """
    assert (cls.reason == "INTERNAL") is (cls is ConfigurationError or cls is IdentityError)


def test_every_documented_reason_belongs_to_an_error() -> None:
    assert {cls.reason for cls in TREE} == REASONS - {"UNSPECIFIED"} - SENT_BY_GUARDS


@pytest.mark.parametrize("cls", [c for c in RAISED if _has_fixed_message(c)], ids=lambda cls: cls.__name__)
def test_a_fixed_message_says_what_to_do_and_names_no_principal(cls: type[IdentityError]) -> None:
    message = str(cls())
    assert message
    for word in (
        "user",
        "username",
        "client",
        "principal",
        "password",
        "unknown",
        "disabled",
        "idrt_",
        "idcs_",
    ):
        assert word not in message.lower().split()


def test_fixed_messages_belong_to_the_errors_that_must_not_reveal_more() -> None:
    names = {cls.__name__ for cls in RAISED if _has_fixed_message(cls)}
    assert {"CredentialRefusedError", "RefreshTokenInvalidError", "SessionEndedError"} <= names


def test_the_audit_details_of_a_refused_credential_are_not_in_its_message() -> None:
    error = CredentialRefusedError("the secret does not match", principal="reports")

    assert str(error) == str(CredentialRefusedError())
    assert (error.why, error.principal) == ("the secret does not match", "reports")


def test_an_invalid_request_names_its_fields_and_keeps_its_message_short() -> None:
    violations = [FieldViolation(field=f"f{n}", description="must be") for n in range(8)]
    error = InvalidRequestError(*violations)
    assert list(error.violations) == violations
    assert str(error) == "; ".join(f"f{n}: must be" for n in range(5))


def test_one_violation_makes_an_error_of_the_class_it_is_made_of() -> None:
    error = MalformedRequestError.of("token", "must be text")
    assert type(error) is MalformedRequestError
    assert error.violations == (FieldViolation(field="token", description="must be text"),)
