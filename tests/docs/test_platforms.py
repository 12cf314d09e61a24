"""docs/platforms.md: each of its recipes works against a real service and stand-ins for the platforms."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.docs.reader import Reader, claims
from tests.docs.recipes import DOCS, link_program, sections
from tests.issuer_server import IssuerServer
from tests.jwts import key_set
from tests.platforms.authorities import EKS, KUBEADM, ClusterAuthority, Shape
from tests.platforms.facts import PLATFORMS, SPIRE_DISCOVERY, Platform
from tests.platforms.kubernetes import JWKS_PATH, KubeApiserver
from tests.rpc.conftest import MASTER_KEY, StartWorld, start_world

__all__ = ["start_world"]

PAGE = sections("platforms.md")
API_SERVER = "https://kubernetes.default.svc"
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_FILES = {
    "EKS": "/var/run/secrets/identity/token",
    "GitHub Actions": "$RUNNER_TEMP/github.jwt",
    "GitLab": "gitlab.jwt",
    "Entra": "entra.jwt",
    "Google": "google.jwt",
    "SPIFFE": "/run/spire/identity.jwt",
}
"""The path on the page of the file with the workload's token, for each section."""

FIRST_RULE = TrustRule(
    claims={"sub": "system:serviceaccount:billing:reports"}, client_id=PrincipalId("reports")
)

MakeReader = Callable[..., Reader]


@pytest.fixture
def make_reader(start_world: StartWorld, tmp_path: Path, identity: Path) -> MakeReader:
    def make(**settings: Any) -> Reader:
        folder = tmp_path / "reader"
        folder.mkdir()
        link_program(folder, identity)
        world = start_world(**settings)
        of_the_service = {
            "IDENTITY_STORE": f"sqlite:///{tmp_path / 'identity.db'}",
            "IDENTITY_MASTER_KEY": MASTER_KEY,
            **{f"IDENTITY_{name.upper()}": json.dumps(value) for name, value in settings.items()},
        }
        return Reader(page=PAGE, world=world, folder=folder, environment=of_the_service)

    return make


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def put_token(reader: Reader, place: str, token: str) -> None:
    """Write the workload's token to a file, and replace the path on the page by that of the file."""
    here = reader.folder / Path(place).name
    here.write_text(f"{token}\n")
    reader.places[place] = str(here)


def kept(reader: Reader) -> str:
    """Return the token from the file of a CI job, which must not print it, since its output is logged."""
    return (reader.folder / "api.token").read_text().strip()


def platform_of(section: str) -> Platform:
    return SPIRE_DISCOVERY if section == "SPIFFE" else PLATFORMS[section]


def place_of_keys(section: str) -> str:
    """Return the URL of the platform's keys that the page gives."""
    found: str
    (found,) = {url for block in PAGE[section] for url in re.findall(r"--jwks-uri (\S+)", block.code)}
    return found


@pytest.mark.parametrize("section", TOKEN_FILES)
def test_a_platform_with_public_keys(make_reader: MakeReader, running: ExitStack, section: str) -> None:
    platform = platform_of(section)
    server = running.enter_context(IssuerServer())
    platform.publish(server)
    reader = make_reader()
    place = place_of_keys(section)
    assert place.endswith(platform.path)
    reader.places[place] = server.origin + platform.path
    put_token(reader, TOKEN_FILES[section], platform.token(datetime.now(UTC)))
    reader.places["$RUNNER_TEMP/api.token"] = str(reader.folder / "api.token")

    printed = reader.follow(section)

    said = claims(kept(reader) if section.startswith("Git") else printed[0])
    assert (said["sub"], said["aud"]) == (("deploy" if section.startswith("Git") else "reports"), ["api"])
    assert said["scope"] == ("write" if section.startswith("Git") else "read")


@pytest.mark.parametrize("shape", [KUBEADM, EKS], ids=["kubeadm", "EKS"])
def test_a_cluster_with_an_authority_of_its_own(
    make_reader: MakeReader, running: ExitStack, tmp_path: Path, shape: Shape
) -> None:
    mounted = tmp_path / "serviceaccount"
    authority = ClusterAuthority(mounted, shape)
    server = running.enter_context(KubeApiserver(tls=authority.server(), tokens={"of.the.pod"}))
    (mounted / "token").write_text("of.the.pod")
    reader = make_reader(**settings_of_the_page({API_SERVER: server.origin, SERVICE_ACCOUNT: str(mounted)}))
    reader.places[API_SERVER + JWKS_PATH] = server.url
    jwt = server.token(datetime.now(UTC), "billing:reports", audience="identity-service")
    put_token(reader, "/var/run/secrets/identity/token", jwt)

    (token,) = reader.follow("Kubernetes")

    assert (claims(token)["sub"], claims(token)["scope"]) == ("reports", "read")


def test_a_second_workload_of_a_cluster(make_reader: MakeReader, running: ExitStack) -> None:
    """The recipe adds a second trust rule to the issuer and keeps the first one."""
    server = running.enter_context(KubeApiserver())
    reader = make_reader()
    keys = key_set(*(key.public() for key in server.keys))
    reader.world.store_admin.administrator.issuers.create(
        TrustedIssuer(issuer=server.issuer, jwks=keys, rules=(FIRST_RULE,))
    )
    reader.world.new_client(public=True)

    reader.follow("Tokens of a platform")

    reader.world.verify("x", strong=True)
    for service_account, client in (("billing:reports", "reports"), ("shop:orders", "orders")):
        jwt = server.token(datetime.now(UTC), service_account, audience="identity-service")
        proof = token_pb2.Credential(federated_token=token_pb2.FederatedToken(jwt=jwt))
        answer = reader.world.stub.Issue(pb.IssueRequest(credential=proof))
        assert claims(answer.token_set.access_token)["sub"] == client


def test_every_recipe_ends_with_a_look_at_the_keys() -> None:
    """The last step runs `identity doctor` where the service runs, which may reach fewer hosts."""
    creating = {
        section: any(block.code == "identity doctor\n" for block in blocks)
        for section, blocks in PAGE.items()
        if any("identity issuer create" in block.code for block in blocks)
    }
    assert creating == dict.fromkeys({*TOKEN_FILES, "Kubernetes"}, True)


def settings_of_the_page(places: dict[str, str]) -> dict[str, Any]:
    """Return the settings for a cluster, after checking that TOML and environment variable agree."""
    text = (DOCS / "platforms.md").read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (variable,) = re.findall(r"value: >-\n(.*?)```", text, re.DOTALL)
    for place, here in places.items():
        toml, variable = toml.replace(place, here), variable.replace(place, here)
    settings = tomllib.loads(toml)
    assert {"jwks_servers": _folded(variable)} == settings
    return settings


def _folded(text: str) -> Any:
    """Parse the JSON in a folded scalar of YAML."""
    return json.loads(" ".join(text.split()))


def test_every_section_with_a_recipe_is_tried_here() -> None:
    tried = {*TOKEN_FILES, "Kubernetes", "Tokens of a platform"}
    assert {section for section, blocks in PAGE.items() if any(b.language == "sh" for b in blocks)} == tried
