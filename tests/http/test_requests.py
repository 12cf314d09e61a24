"""The rules that hold for every HTTP request and response, whichever the endpoint."""

import pytest

from tests.http.site import Site

KEYS = "/.well-known/jwks.json"


def test_an_unknown_path_is_not_found(site: Site) -> None:
    answer = site.get("/oauth2/nothing")

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/readyz", "GET, HEAD"), ("GET", "/oauth2/token", "POST"), ("DELETE", "/livez", "GET, HEAD")],
)
def test_another_method_is_answered_with_those_of_the_path(
    site: Site, method: str, path: str, allowed: str
) -> None:
    answer = site.request(method, path)

    assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_a_path_with_a_final_slash_is_not_redirected_to_the_host_that_the_client_names(site: Site) -> None:
    answer = site.get("/livez/", host="evil.example")

    assert answer.status == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/livez%0a", "/livez%20", "//livez", "http:///livez", "/livez%0d%0aSet-Cookie:%20a=b"]
)
def test_a_path_with_one_more_character_is_not_found(site: Site, path: str) -> None:
    assert site.get(path).status in (400, 404)


@pytest.mark.parametrize("path", ["/%6civez", "/oauth2/toke%6E", "/oauth2%2ftoken", "/%6detrics"])
def test_a_path_in_disguise_is_not_found(site: Site, path: str) -> None:
    """Proxies may apply their rules to the path as it was sent, so the service must not decode it."""
    assert site.get(path).status == 404
    assert site.get("/livez?a=%6c").status == 200


@pytest.mark.parametrize("path", ["/%ff", "/livez%c3", "/%ED%A0%80"])
def test_a_path_that_is_not_utf8_is_refused_at_once(site: Site, path: str) -> None:
    assert site.get(path).status in (403, 404)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/livez", 200),
        ("HTTP://evil.example:1/livez?a=b", 200),
        ("http://evil.example", 404),
        ("http://evil.example?/livez", 404),
        ("http://livez/livez/", 404),
    ],
)
def test_a_target_in_the_absolute_form_is_served_whichever_host_it_names(
    site: Site, target: str, status: int
) -> None:
    answer = site.get(target)

    assert answer.status == status
    assert "evil" not in f"{answer.headers}{answer.body!r}"


def test_head_has_the_headers_of_get_and_no_body(site: Site) -> None:
    got, head = site.get(KEYS), site.request("HEAD", KEYS)

    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.body))
    assert head.headers["etag"] == got.headers["etag"]


def test_a_body_of_more_than_64_kib_is_refused(site: Site) -> None:
    answer = site.post("/oauth2/token", "a" * (64 * 1024 + 1))

    assert answer.status == 413
    assert answer.json["error"] == "request_too_large"


def test_a_body_of_64_kib_reaches_its_endpoint(site: Site) -> None:
    answer = site.post("/oauth2/token", "grant_type=client_credentials&a=".ljust(64 * 1024, "a"))

    assert answer.status in (400, 401)


def test_headers_of_more_than_32_kib_are_refused(site: Site) -> None:
    answer = site.get("/livez", x_long="a" * 20_000, x_longer="a" * 20_000)

    assert answer.status in (400, 431)


def test_the_answer_names_the_request_id_that_the_client_chose(site: Site) -> None:
    assert site.get("/livez", x_request_id="abc-1").headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("chosen", ["", "two words", "x" * 129])
def test_another_request_id_replaces_one_that_is_unusable(site: Site, chosen: str) -> None:
    given = site.get("/livez", x_request_id=chosen).headers["x-request-id"]

    assert given != chosen
    assert len(given) == 16


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/oauth2/token"])
def test_no_answer_is_kept_by_caches_or_interpreted_by_browsers(site: Site, path: str) -> None:
    headers = site.get(path).headers

    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers
    assert headers["date"].endswith("GMT")


def test_an_oauth_client_gets_a_token_that_verify_accepts(site: Site) -> None:
    client = site.world.new_client()
    secret = client.credential.client_secret
    body = f"grant_type=client_credentials&client_id={secret.client_id}&client_secret={secret.client_secret}"

    answer = site.post("/oauth2/token", body)

    assert answer.status == 200
    verified = site.world.verify(answer.json["access_token"]).verified
    assert verified.subject == client.id
    assert verified.issuer == "https://id.example"


def test_a_connection_serves_several_requests(site: Site) -> None:
    connection = site.connect()
    for _ in range(3):
        connection.request("GET", "/livez")
        with connection.getresponse() as response:
            assert response.read() == b"alive\n"
    connection.close()
