"""Reads and checks a principals file, and reports all its problems together, each with its line.

The module knows nothing of the stored records.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from identity_service.config.validation_messages import reword
from identity_service.domain.errors import ConfigurationError, FieldViolation, InvalidRequestError
from identity_service.domain.issuers import IssuerNames, TrustedIssuer
from identity_service.domain.ports import PublicKeyChecker
from identity_service.domain.principals import Client, StoredSecret, User, normalize_username
from identity_service.principals.document import Document, Path, read_document
from identity_service.principals.plan import KINDS, Declaration, Declared, Wanted, name_of
from identity_service.principals.schema import SECTIONS, DeclaredPrincipals, DeclaredRule
from identity_service.services.admin.checks import check_client, check_user
from identity_service.services.admin.issuer_checks import check_issuer

MAX_FILE_BYTES: Final = 4 * 2**20
_PART: Final = re.compile(r"[^.\[\]]+|\[[0-9]+\]")
_SOME_SECRET: Final = (StoredSecret(digest=b""),)
"""A placeholder for the secrets of a client that is declared to have one."""


def read_principals(
    content: bytes, name: str, keys: PublicKeyChecker, *, own: IssuerNames | None = None
) -> Declaration:
    """Read the declaration that the content of a file holds.

    Args:
        content: the bytes of the file.
        name: the name of the file in messages.
        keys: checks public keys.
        own: the issuer name of the service that the file is for, if it is known.

    Raises:
        ConfigurationError: one line for each problem, as `name:line: path: what it must be`.
    """
    document = _document(content)
    declaration: Declaration | None = None
    if document.value is not None or not document.problems:
        declaration = _declaration(document)
    if declaration is not None:
        for problem_path, what in _record_problems(declaration, keys, own):
            document.add(problem_path, what)
    if document.problems or declaration is None:
        found = sorted(document.problems, key=lambda problem: problem.line)
        raise ConfigurationError("\n".join(f"{name}:{problem.line}: {problem}" for problem in found))
    return declaration


def _document(content: bytes) -> Document:
    document = Document()
    if len(content) > MAX_FILE_BYTES:
        document.add((), f"must have at most {MAX_FILE_BYTES // 2**20} MiB")
        return document
    try:
        text = content.decode()
    except UnicodeDecodeError:
        document.add((), "must be UTF-8 text")
        return document
    return read_document(text)


def _declaration(document: Document) -> Declaration | None:
    value = {} if document.value is None else document.value
    try:
        return DeclaredPrincipals.model_validate(value).declaration()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            path: Path = tuple(part for part in problem["loc"] if part != "[key]")
            document.add(path, _unknown(path) if problem["type"] == "extra_forbidden" else _reworded(problem))
        return None


def _reworded(problem: ErrorDetails) -> str:
    if problem["loc"]:
        return reword(problem)
    return f"must be a mapping of {', '.join(SECTIONS)}"


def _unknown(path: Path) -> str:
    name, known = str(path[-1]), _model_around(path).model_fields
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (
        f"is not known; did you mean {nearest[0]}?"
        if nearest
        else f"is not known; there are {', '.join(known)}"
    )


def _model_around(path: Path) -> type[BaseModel]:
    if len(path) == 1:
        return DeclaredPrincipals
    return DeclaredRule if len(path) > 3 else SECTIONS[str(path[0])]


def _record_problems(
    declaration: Declaration, keys: PublicKeyChecker, own: IssuerNames | None
) -> Iterator[tuple[Path, str]]:
    """Yield the problems that the schema does not find: values out of bounds, and duplicate values."""
    for wanted in declaration.wanted:
        try:
            _check(wanted, keys, own)
        except InvalidRequestError as error:
            yield from _located(wanted.record, error.violations)
    records = [wanted.record for wanted in declaration.wanted]
    users = [record for record in records if isinstance(record, User)]
    yield from _duplicates(
        (("users", user.username), normalize_username(user.username), "is the same username as")
        for user in users
    )
    yield from _duplicates(
        (("clients", client.client_id, "certificates"), certificate, "holds a certificate of")
        for client in records
        if isinstance(client, Client)
        for certificate in sorted(client.certificates)
    )


def _check(wanted: Wanted, keys: PublicKeyChecker, own: IssuerNames | None) -> None:
    match wanted.record:
        case Client() as client:
            # The file contains no secrets, but the checks depend on whether the client will have one.
            check_client(replace(client, secrets=_SOME_SECRET if wanted.secret else ()), keys)
        case User() as user:
            check_user(user)
        case TrustedIssuer() as issuer:
            check_issuer(issuer, keys, own=own)


def _located(record: Declared, violations: Iterable[FieldViolation]) -> Iterator[tuple[Path, str]]:
    """Yield each violation with its path in the file, which begins with the section and the record's name."""
    section = next(name for name, kind in zip(SECTIONS, KINDS, strict=True) if isinstance(record, kind))
    for violation in violations:
        _, *inside = _PART.findall(violation.field)
        parts: Sequence[str | int] = [int(p[1:-1]) if p.startswith("[") else p for p in inside]
        yield (section, name_of(record), *parts), violation.description


def _duplicates(claims: Iterable[tuple[Path, str, str]]) -> Iterator[tuple[Path, str]]:
    """Yield a problem for each record after the first that claims a value which must be unique."""
    first: dict[str, Path] = {}
    for path, value, what in claims:
        other = first.setdefault(value, path)
        if other is not path:
            yield path, f"{what} {other[1]}"
