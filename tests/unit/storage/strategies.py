"""Hypothesis strategies for everything that a store writes."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st

from identity_service.domain.copying import (
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedUse,
    RecordDeleted,
)
from identity_service.domain.ids import KeyId, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import Generation, Marks, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.principals import Client, Grant, OnReuse, StoredSecret, User
from identity_service.domain.sessions import Session
from identity_service.domain.tokens import TokenEncryption

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.frozensets(TEXTS, max_size=4)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone added
LIFETIMES = st.timedeltas(timedelta(microseconds=1), timedelta(days=3650))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=8,
)
T = TypeVar("T", Client, Marks, Session, StoredKey, StoredSecret, TrustRule, TrustedIssuer, User)


def every_field(kind: type[T], **strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    """Build values of this class from a strategy for each field.

    A field that always had its default could be lost without a test noticing.
    """
    missing = {field.name for field in fields(kind)} - strategies.keys()
    assert not missing, f"{kind.__name__} needs strategies for {sorted(missing)} here"
    return st.builds(kind, **strategies)


SECRETS = every_field(
    StoredSecret,
    digest=st.binary(max_size=32),
    expire_time=st.none() | TIMES,
    create_time=st.none() | TIMES,
)
CLIENTS = every_field(
    Client,
    client_id=TEXTS.map(PrincipalId),
    display_name=TEXTS,
    secrets=st.lists(SECRETS, max_size=3).map(tuple),
    certificates=NAMES,
    public_keys=st.lists(TEXTS, max_size=3).map(tuple),
    grants=st.frozensets(st.sampled_from(Grant)),
    audiences=NAMES,
    scopes=NAMES,
    max_lifetime=st.none() | LIFETIMES,
    on_reuse=st.sampled_from(OnReuse),
    require_binding=st.booleans(),
    exchange_audiences=NAMES,
    encryption_key=st.none() | TEXTS,
    disabled=st.booleans(),
    create_time=st.none() | TIMES,
)
USERS = every_field(
    User,
    user_id=TEXTS.map(PrincipalId),
    username=TEXTS,
    display_name=TEXTS,
    password_hash=st.none() | TEXTS,
    audiences=NAMES,
    scopes=NAMES,
    disabled=st.booleans(),
    create_time=st.none() | TIMES,
)
KEYS = every_field(
    StoredKey,
    key_id=TEXTS.map(KeyId),
    purpose=st.sampled_from(KeyPurpose),
    algorithm=TEXTS,
    public_jwk=st.none() | TEXTS,
    sealed=TEXTS,
    create_time=TIMES,
    activate_time=TIMES,
)
RULES = every_field(
    TrustRule,
    claims=st.dictionaries(TEXTS, TEXTS, max_size=3),
    client_id=TEXTS.map(PrincipalId),
    per_subject=st.booleans(),
)
ISSUERS = every_field(
    TrustedIssuer,
    issuer=TEXTS,
    jwks_uri=st.none() | TEXTS,
    jwks_file=st.none() | TEXTS,
    jwks=st.none() | TEXTS,
    audiences=st.lists(TEXTS, max_size=3).map(tuple),
    algorithms=st.lists(TEXTS, max_size=3).map(tuple),
    rules=st.lists(RULES, max_size=3).map(tuple),
    single_use=st.booleans(),
    max_age=st.none() | LIFETIMES,
    create_time=st.none() | TIMES,
)
GENERATIONS = st.builds(
    Generation, number=st.integers(1, 2**53), link=st.text("abc-_+", min_size=1, max_size=64).map(Link)
)
SESSIONS = every_field(
    Session,
    session_id=TEXTS.map(SessionId),
    subject=TEXTS.map(PrincipalId),
    client_id=TEXTS.map(PrincipalId),
    audiences=st.lists(TEXTS, max_size=3).map(tuple),
    scopes=st.lists(TEXTS, max_size=3).map(tuple),
    lifetime=LIFETIMES,
    claims=st.dictionaries(TEXTS, JSON, max_size=3),
    generations=st.dictionaries(TEXTS.map(PrincipalId), GENERATIONS, max_size=3),
    auth_time=TIMES,
    expire_time=TIMES,
    device=TEXTS,
    peer=TEXTS,
    may_act=st.none() | TEXTS.map(PrincipalId),
    encryption=st.sampled_from(TokenEncryption),
    certificate_sha256=st.none() | st.binary(min_size=32, max_size=32),
    key_sha256=st.none() | st.binary(min_size=32, max_size=32),
    refresh_time=st.none() | TIMES,
    key_id=TEXTS.map(KeyId),
    latest=st.integers(0, 2**32),
    parent=st.integers(-1, 2**32),
    rotate_times=st.dictionaries(st.integers(0, 2**32), TIMES, max_size=5),
)
MARKS = every_field(
    Marks,
    lifetime=LIFETIMES,
    session=LIFETIMES,
    leeway=LIFETIMES,
    time=st.none() | TIMES,
    latest=st.none() | TIMES,
)
ITEMS: st.SearchStrategy[CopiedItem] = st.one_of(
    st.builds(CopiedMarks, marks=MARKS, retention=LIFETIMES),
    st.builds(
        CopiedGeneration,
        principal=TEXTS.map(PrincipalId),
        generation=st.builds(Generation, number=st.integers(1, 2**62), link=TEXTS.map(Link)),
    ),
    st.builds(TokenDenied, token_id=TEXTS.map(TokenId), deny_until=TIMES),
    st.builds(SessionEnded, session_id=TEXTS.map(SessionId), deny_until=TIMES, end_until=TIMES),
    st.builds(CopiedRecord, record=st.one_of(CLIENTS, USERS, KEYS, ISSUERS)),
    st.builds(RecordDeleted, kind=st.sampled_from(RecordKind), id=TEXTS),
    st.builds(CopiedUse, key=TEXTS, until=TIMES),
)
