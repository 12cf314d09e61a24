"""Records are read back as they were written; a record of a newer version is refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.ids import KeyId, Link, PrincipalId, SessionId
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.log import Generation, RecordKind
from identity_service.domain.principals import Client, Grant, StoredSecret, User
from identity_service.domain.records import Record, kind_of
from identity_service.domain.sessions import Session
from identity_service.storage import codec, record_codec
from tests.unit.storage.strategies import CLIENTS, ISSUERS, KEYS, SESSIONS, USERS


@given(CLIENTS)
def test_a_client_is_read_back_as_it_was_written(client: Client) -> None:
    assert record_codec.decode_record(Client, record_codec.encode_record(client)) == client


@given(USERS)
def test_a_user_is_read_back_as_it_was_written(user: User) -> None:
    assert record_codec.decode_record(User, record_codec.encode_record(user)) == user


@given(KEYS)
def test_a_key_is_read_back_as_it_was_written(key: StoredKey) -> None:
    assert record_codec.decode_record(StoredKey, record_codec.encode_record(key)) == key


@given(ISSUERS)
def test_a_trusted_issuer_is_read_back_as_it_was_written(issuer: TrustedIssuer) -> None:
    assert record_codec.decode_record(TrustedIssuer, record_codec.encode_record(issuer)) == issuer


@given(SESSIONS)
def test_a_session_is_read_back_as_it_was_written(session: Session) -> None:
    assert codec.decode_session(codec.encode_session(session)) == session


@given(st.one_of(USERS.map(record_codec.encode_record), SESSIONS.map(codec.encode_session)))
def test_an_encoded_record_is_one_json_object_in_utf_8(text: str) -> None:
    assert isinstance(json.loads(text.encode()), dict)


def test_a_client_that_an_older_version_wrote_has_defaults_for_newer_fields() -> None:
    text = """{"client_id": "shop", "display_name": "Shop", "secrets": [["00ff", null], ["11", 60.5]],
        "grants": ["client_credentials"], "audiences": ["orders"], "scopes": [], "max_lifetime": 300.0,
        "on_reuse": "end_session", "disabled": false, "create_time": null}"""

    assert record_codec.decode_record(Client, text) == Client(
        client_id=PrincipalId("shop"),
        display_name="Shop",
        secrets=(
            StoredSecret(digest=b"\x00\xff"),
            StoredSecret(digest=b"\x11", expire_time=datetime(1970, 1, 1, 0, 1, 0, 500_000, tzinfo=UTC)),
        ),
        grants=frozenset({Grant.CLIENT_CREDENTIALS}),
        audiences=frozenset({"orders"}),
        max_lifetime=timedelta(minutes=5),
    )


@pytest.mark.parametrize("member", ["disabled", "grants", "audiences", "max_lifetime"])
def test_a_client_without_a_member_that_every_version_wrote_is_refused(member: str) -> None:
    data = json.loads(record_codec.encode_record(Client(client_id=PrincipalId("shop"))))
    del data[member]
    with pytest.raises(KeyError, match=member):
        record_codec.decode_record(Client, json.dumps(data))


def test_a_session_that_an_older_version_wrote_has_defaults_for_newer_fields() -> None:
    text = """{"sid": "s", "sub": "u_1", "client": "shop", "aud": ["orders"], "scope": [], "life": 900.0,
        "claims": {}, "gen": {"u_1": "3.link"}, "auth": 60.0, "expire": 120.0, "device": "laptop", "key": "k",
        "latest": 2, "parent": 1, "times": {"1": 90.0}}"""

    assert codec.decode_session(text) == Session(
        session_id=SessionId("s"),
        subject=PrincipalId("u_1"),
        client_id=PrincipalId("shop"),
        audiences=("orders",),
        scopes=(),
        lifetime=timedelta(minutes=15),
        generations={PrincipalId("u_1"): Generation(number=3, link=Link("link"))},
        auth_time=datetime(1970, 1, 1, 0, 1, tzinfo=UTC),
        expire_time=datetime(1970, 1, 1, 0, 2, tzinfo=UTC),
        device="laptop",
        key_id=KeyId("k"),
        latest=2,
        parent=1,
        rotate_times={1: datetime(1970, 1, 1, 0, 1, 30, tzinfo=UTC)},
    )


@given(CLIENTS)
def test_one_record_has_one_text(client: Client) -> None:
    """Sets have no order: without sorting, an unchanged record could be written differently each time."""
    again = record_codec.decode_record(Client, record_codec.encode_record(client))
    assert record_codec.encode_record(again) == record_codec.encode_record(client)


def test_every_record_has_a_kind_of_its_own() -> None:
    assert {kind_of(kind) for kind in get_args(Record)} == set(RecordKind)


@pytest.mark.parametrize(
    ("member", "value"),
    [("grants", ["telepathy"]), ("on_reuse", "forgive"), ("secrets", [["not hex", None]])],
)
def test_a_client_with_a_value_of_a_newer_version_is_refused(member: str, value: object) -> None:
    data = json.loads(record_codec.encode_record(Client(client_id=PrincipalId("shop"))))
    with pytest.raises(ValueError, match=r"."):
        record_codec.decode_record(Client, json.dumps(data | {member: value}))


def test_a_key_for_an_unknown_purpose_is_refused() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    key = StoredKey(
        key_id=KeyId("k"),
        purpose=KeyPurpose.SIGN,
        algorithm="ES256",
        sealed="s",
        create_time=moment,
        activate_time=moment,
    )
    data = json.loads(record_codec.encode_record(key))
    with pytest.raises(ValueError, match="bake"):
        record_codec.decode_record(StoredKey, json.dumps(data | {"purpose": "bake"}))


def test_a_session_with_a_malformed_generation_is_refused() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    session = Session(
        session_id=SessionId("s"),
        subject=PrincipalId("u"),
        client_id=PrincipalId("c"),
        audiences=(),
        scopes=(),
        lifetime=timedelta(minutes=15),
        auth_time=moment,
        expire_time=moment,
        key_id=KeyId("k"),
    )
    data = json.loads(codec.encode_session(session))
    with pytest.raises(ValueError, match="not a generation"):
        codec.decode_session(json.dumps(data | {"gen": {"u": "0.l"}}))
