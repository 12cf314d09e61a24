"""The rules of RFC 9449 for a proof and its request, and the normal form of the URIs that they compare."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from identity_service.domain.credential_errors import DpopNonceRequiredError, DpopProofRefusedError
from identity_service.domain.dpop import DpopProof, PresentedProof, check_proof, normalised_uri
from identity_service.domain.secret import Secret

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEEWAY = timedelta(seconds=10)
TICK = timedelta(microseconds=1)
URI = "https://identity.example/oauth2/token"
PRESENTED = PresentedProof(
    jwt=Secret("unread"), method="POST", uris=("https://other.example/oauth2/token", URI)
)
PROOF = DpopProof(key_sha256=b"k" * 32, token_id="p1", method="POST", uri=URI, issue_time=NOW)
TOKEN = "an.access.token"
DIGEST = sha256(TOKEN.encode()).digest()


def check(proof: DpopProof = PROOF, presented: PresentedProof = PRESENTED, **more: Any) -> None:
    check_proof(proof, presented, now=NOW, leeway=LEEWAY, **more)


def test_a_proof_for_this_request_is_accepted() -> None:
    check()


def test_a_proof_may_spell_the_uri_in_another_way() -> None:
    check(replace(PROOF, uri="HTTPS://Identity.Example:443/oauth2/./%74oken?grant=1#here"))


@pytest.mark.parametrize("method", ["GET", "post", "POST ", ""])
def test_a_proof_for_another_method_is_refused(method: str) -> None:
    with pytest.raises(DpopProofRefusedError, match="htm"):
        check(replace(PROOF, method=method))


@pytest.mark.parametrize(
    "uri",
    [
        "http://identity.example/oauth2/token",
        "https://identity.example:8443/oauth2/token",
        "https://identity.example.evil.example/oauth2/token",
        "https://evil.example/oauth2/token",
        "https://identity.example/oauth2/token/",
        "https://identity.example//oauth2/token",
        "https://identity.example/oauth2/Token",
        "https://identity.example/oauth2%2Ftoken",
        "https://identity.example/",
        "https://user@identity.example/oauth2/token",
        "https://identity.example@evil.example/oauth2/token",
        "//identity.example/oauth2/token",
        "/oauth2/token",
        "",
    ],
)
def test_a_proof_for_another_uri_is_refused(uri: str) -> None:
    with pytest.raises(DpopProofRefusedError, match="htu"):
        check(replace(PROOF, uri=uri))


def test_without_a_configured_uri_every_proof_is_refused() -> None:
    with pytest.raises(DpopProofRefusedError, match=r"as the metadata does.*`dpop_authorities`"):
        check(presented=replace(PRESENTED, uris=()))


@pytest.mark.parametrize("age", [-LEEWAY, timedelta(0), timedelta(seconds=70) - TICK])
def test_a_proof_is_valid_for_60_s_and_the_leeway_on_both_sides(age: timedelta) -> None:
    check(replace(PROOF, issue_time=NOW - age))


@pytest.mark.parametrize("age", [-LEEWAY - TICK, timedelta(seconds=70), timedelta(days=365)])
def test_a_proof_from_the_future_or_from_long_ago_is_refused(age: timedelta) -> None:
    with pytest.raises(DpopProofRefusedError, match="iat"):
        check(replace(PROOF, issue_time=NOW - age))


def test_a_proof_with_the_digest_of_the_token_is_accepted_with_it() -> None:
    check(replace(PROOF, access_token_sha256=DIGEST), access_token=TOKEN)


@pytest.mark.parametrize("digest", [None, sha256(b"another").digest(), DIGEST[:31] + b"x"])
def test_a_proof_without_the_digest_of_the_token_is_refused_with_it(digest: bytes | None) -> None:
    with pytest.raises(DpopProofRefusedError, match="ath"):
        check(replace(PROOF, access_token_sha256=digest), access_token=TOKEN)


@pytest.mark.parametrize("nonce", ["now", "before"])
def test_a_proof_with_an_accepted_nonce_is_accepted(nonce: str) -> None:
    check(replace(PROOF, nonce=nonce), nonces=("now", "before"))


@pytest.mark.parametrize("nonce", [None, "", "no", "now ", "NOW", "nöw"])
def test_a_proof_without_an_accepted_nonce_is_answered_with_the_current_one(nonce: str | None) -> None:
    with pytest.raises(DpopNonceRequiredError) as refusal:
        check(replace(PROOF, nonce=nonce), nonces=("now", "before"))

    assert refusal.value.nonce == "now"


def test_a_nonce_that_is_not_needed_is_ignored() -> None:
    check(replace(PROOF, nonce="of another time"))


@pytest.mark.parametrize(
    "wrong", [{"method": "GET"}, {"uri": "https://evil.example/"}, {"issue_time": NOW - timedelta(hours=1)}]
)
def test_a_proof_that_is_wrong_otherwise_gets_no_nonce(wrong: dict[str, Any]) -> None:
    with pytest.raises(DpopProofRefusedError):
        check(replace(PROOF, **wrong), nonces=("now",))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://a.example", "https://a.example/"),
        ("https://a.example?q", "https://a.example/"),
        ("HTTPS://A.EXAMPLE/B", "https://a.example/B"),
        ("https://a.example:443/", "https://a.example/"),
        ("https://a.example:0443/", "https://a.example/"),
        ("https://a.example:/", "https://a.example/"),
        ("https://a.example:80/", "https://a.example:80/"),
        ("http://a.example:80/", "http://a.example/"),
        ("http://a.example:443/", "http://a.example:443/"),
        ("https://a.example/%7Eb/%41%2d%2E%5f", "https://a.example/~b/A-._"),
        ("https://a.example/%3a%2f%3F", "https://a.example/%3A%2F%3F"),
        ("https://a.example/%2541", "https://a.example/%2541"),
        ("https://a.example/a/./b/../c", "https://a.example/a/c"),
        ("https://a.example/a/%2E%2e/c", "https://a.example/c"),
        ("https://a.example/../../c", "https://a.example/c"),
        ("https://a.example/a/..", "https://a.example/"),
        ("https://a.example/a/b/..", "https://a.example/a/"),
        ("https://a.example/a/.", "https://a.example/a/"),
        ("https://a.example/a//b", "https://a.example/a//b"),
        ("https://a.example/a//../b", "https://a.example/a/b"),
        ("https://a.example/...", "https://a.example/..."),
        ("https://[::1]/", "https://[::1]/"),
        ("https://[0:0::0:1]:443/", "https://[::1]/"),
        ("https://[2001:DB8::A]:8443/x", "https://[2001:db8::a]:8443/x"),
        ("https://127.0.0.1:5000/identityapi.v1.IdentityService/Issue",) * 2,
    ],
)
def test_a_uri_has_the_normal_form_of_rfc_3986(text: str, normal: str) -> None:
    assert normalised_uri(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.example/",
        "ftp://a.example/",
        "https:a.example/",
        "https:/a.example/",
        "https:///a",
        "https://",
        "https://user@a.example/",
        "https://user:password@a.example/",
        "https://:@a.example/",
        "https://a.example%2F@b.example/",
        "https://%61.example/",
        "https://ä.example/",
        "https://a.example:x/",
        "https://a.example:65536/",
        "https://a.example:-1/",
        "https://a.example:443:443/",
        "https://a.example/%",
        "https://a.example/%4",
        "https://a.example/%zz",
        "https://a.example/ä",
        "https://a.example/a b",
        "https://a.example/a\\b",
        "https://a.example\\@b.example/",
        "https://a.example/a?b c",
        "https://a.example/\n",
        " https://a.example/",
        "https://a.example/\0",
        "https://[::1/",
        "https://::1/",
        "https://[]/",
        "https://[g::1]/",
        "https://[1.2.3.4]/",
        "https://[fe80::1%25eth0]/",
        "https://[v1.a]/",
        "https://\u212aelvin.example/",
    ],
)
def test_a_text_that_is_no_such_uri_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        normalised_uri(text)


HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
SEGMENTS = st.text(st.sampled_from("abz019-._~!$&'()*+,;=:@ä/?#% "), max_size=6).map(
    lambda s: quote(s, safe="!$&'()*+,;=:@")
)
PORTS = st.none() | st.integers(0, 65535)


@st.composite
def respelled(draw: st.DrawFn, text: str, *, may_encode: bool) -> str:
    """Return the text in another spelling that is equivalent by RFC 3986."""
    ways = [lambda c: c]
    ways.append(
        (lambda c: f"%{ord(c):02x}" if c.isalnum() or c in "-._~" else c) if may_encode else str.upper
    )
    return "".join(draw(st.sampled_from(ways))(character) for character in text)


@given(HOSTS, PORTS, st.lists(SEGMENTS, max_size=4), st.sampled_from(["", "?q=%zz", "#f", "?#?"]), st.data())
def test_equivalent_uris_have_one_normal_form_which_is_its_own(
    host: str, port: int | None, segments: list[str], rest: str, data: st.DataObject
) -> None:
    path = "".join(f"/{segment}" for segment in segments)
    at = "" if port is None else f":{port}"
    plain = f"https://{host}{at}{path}"
    normal = normalised_uri(plain)
    pieces = ["/." * data.draw(st.integers(0, 2)) + f"/{_respell(segment, data)}" for segment in segments]
    other_host = data.draw(respelled(host, may_encode=False))
    other_port = at or data.draw(st.sampled_from(["", ":", ":443", ":00443"]))

    assert normalised_uri(normal) == normal
    assert normalised_uri(f"hTTps://{other_host}{other_port}{''.join(pieces)}{rest}") == normal


def _respell(segment: str, data: st.DataObject) -> str:
    """Percent-encode some characters of a segment that has none, and change the case of the encoded ones."""
    if "%" in segment:
        return segment.lower() if segment.isupper() else segment
    return data.draw(respelled(segment, may_encode=True))


@given(st.text() | st.text().map("https://{}".format) | st.text().map("https://a.example/{}".format))
@example("http://.")  # a host, not a segment of the path
@example("http://a.example/b/.")
def test_any_other_text_is_refused_or_has_a_normal_form(text: str) -> None:
    try:
        normal = normalised_uri(text)
    except ValueError:
        return
    assert normalised_uri(normal) == normal
    assert normal.isascii()
    authority, _, path = normal.partition("://")[2].partition("/")
    assert not {"?", "#", "@"} & set(authority)
    assert not {".", ".."} & set(path.split("/"))
