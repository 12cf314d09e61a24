"""Nimbus's OAuth 2.0 SDK as a client, and Spring Security as a resource server.

`java/OAuthClient.java` calls the SDK. The programs in docs/integrations.md are compiled without changes.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import requests

from tests.http.libraries.programs import Program, build, require
from tests.http.libraries.provider import Provider
from tests.http.libraries.recipes import recipe
from tests.http.libraries.rotation import AT_ONCE, new_token, rotate_between
from tests.patience import PATIENCE, until
from tests.tls import Certifier

FOLDER = Path(__file__).parent / "java"
_STARTS_FAST = "-XX:TieredStopAtLevel=1"
_CLASS = re.compile(r"^(?:public final )?class (\w+)", re.MULTILINE)
_PORT = re.compile(r"Tomcat started on port (\d+)")


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the jars that pom.xml names. Maven downloads those that are not in its cache."""
    require("java", "javac", "keytool", "mvn")
    folder = tmp_path_factory.mktemp("java")
    (folder / "pom.xml").write_bytes((FOLDER / "pom.xml").read_bytes())
    build(
        [
            "mvn",
            "--batch-mode",
            "--strict-checksums",
            "--quiet",
            "dependency:copy-dependencies",
            "-DoutputDirectory=jars",
        ],
        folder,
    )
    return folder / "jars"


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """Compiles Java programs against the libraries. They run in a JVM that trusts the service's authority."""

    libraries: Path
    folder: Path
    environment: Mapping[str, str]

    def program(self, *sources: str, main: str) -> Program:
        """Compile these sources; return the program whose main class is `main`."""
        self.folder.mkdir(exist_ok=True)
        files = [self.folder / f"{_name(source)}.java" for source in sources]
        for file, source in zip(files, sources, strict=True):
            file.write_text(source)
        fast, path = f"-J{_STARTS_FAST}", f"{self.libraries}/*"
        build(["javac", fast, "-parameters", "-d", self.folder, "-cp", path, *files], self.folder)
        command = ["java", _STARTS_FAST, "-cp", f"{self.folder}:{self.libraries}/*", main]
        return Program(command=command, environment=self.environment)


def _name(source: str) -> str:
    found = _CLASS.search(source)
    assert found
    return found[1]


@pytest.fixture(scope="session")
def compiled(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    source = (FOLDER / "OAuthClient.java").read_text()
    compiler = Compiler(libraries=libraries, folder=tmp_path_factory.mktemp("client"), environment={})
    return compiler.program(source, main="OAuthClient")


@pytest.fixture(scope="session")
def trust_store(certifier: Certifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Java trust store that docs/integrations.md describes, with the authority of the service."""
    require("keytool")
    folder = tmp_path_factory.mktemp("trust")
    authority = ["-importcert", "-noprompt", "-alias", "identity", "-file", str(certifier.file)]
    build(["keytool", *authority, "-keystore", "ca.p12", "-storepass", "changeit"], folder)
    return folder / "ca.p12"


@pytest.fixture
def compiler(provider: Provider, libraries: Path, trust_store: Path, tmp_path: Path) -> Compiler:
    """A compiler for the programs in docs/integrations.md."""
    options = f"-Djavax.net.ssl.trustStore={trust_store} -Djavax.net.ssl.trustStorePassword=changeit"
    _, secret = provider.credentials
    environment = {"JAVA_TOOL_OPTIONS": options, "CLIENT_SECRET": secret}
    return Compiler(libraries=libraries, folder=tmp_path / "classes", environment=environment)


@pytest.fixture
def program(compiled: Program, compiler: Compiler) -> Program:
    return replace(compiled, environment=compiler.environment)


def test_the_libraries_are_those_of_the_file_of_checksums(libraries: Path) -> None:
    found = {f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}" for jar in libraries.iterdir()}

    assert found == set((FOLDER / "checksums.txt").read_text().splitlines())


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
def test_a_service_gets_asks_about_and_revokes_a_token(
    provider: Provider, program: Program, method: str
) -> None:
    said = program.run(provider, "service", method)

    assert (said["tokens"]["expires_in"], said["tokens"]["scope"]) == (900, "read")
    assert (said["before"]["active"], said["before"]["iss"]) == (True, provider.issuer)
    assert (said["revoked"], said["after"]) == (200, {"active": False})


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"])
def test_a_person_signs_in_refreshes_and_signs_out(provider: Provider, program: Program, method: str) -> None:
    said = program.run(provider, "person", method)

    assert said["lost"] != said["first"]
    assert said["again"] == said["lost"]
    assert said["ended"] == "invalid_grant"


def test_a_token_is_exchanged_for_one_that_names_the_actor(provider: Provider, program: Program) -> None:
    said = program.run(provider, "exchange")

    assert (said["active"], said["act"]["sub"]) == (True, "reports")
    assert said["sub"] != "reports"


def test_a_workload_gets_a_token_for_an_assertion_of_its_platform(
    provider: Provider, program: Program
) -> None:
    assert program.run(provider, "federated")["sub"] == provider.federated.client_id


def test_refusals_have_the_errors_of_the_standard(provider: Provider, program: Program) -> None:
    assert program.run(provider, "refusals") == {
        "client": "invalid_client",
        "scope": "invalid_scope",
        "password": "invalid_grant",
        "refresh": "invalid_grant",
    }


@pytest.mark.settings(**AT_ONCE)
def test_nimbus_verifies_before_and_after_a_rotation(provider: Provider, program: Program) -> None:
    with program.verifying(provider, "verify") as verify:
        rotation = rotate_between(provider, verify)

    assert len(rotation.key_ids) == 2
    assert rotation.subjects == ["reports"] * 3


def test_the_recipe_for_nimbus_prints_the_claims_of_a_token(provider: Provider, compiler: Compiler) -> None:
    (source,) = recipe("Java", provider)

    said = compiler.program(source, main="Reports").run(provider)

    assert (said["sub"], said["scope"]) == ("reports", "read")


@dataclass(frozen=True)
class Api:
    """The API of the Spring Boot program in docs/integrations.md, which accepts access tokens."""

    url: str

    def get(self, token: str) -> requests.Response:
        return requests.get(self.url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)

    def verify(self, token: str) -> Mapping[str, str]:
        """Call the API; return the name of its caller as the claim `sub`, or the refusal as `refused`."""
        answer = self.get(token)
        return {"sub": answer.text} if answer.ok else {"refused": answer.headers["WWW-Authenticate"]}


@contextmanager
def serving(program: Program, *options: str) -> Iterator[Api]:
    """Start a Spring Boot program on a free port, and stop it after the block."""
    command = [*program.command, "--server.address=127.0.0.1", "--server.port=0", *options]
    with (
        TemporaryFile("w+") as output,
        subprocess.Popen(command, env=os.environ | program.environment, stdout=output) as process,
    ):

        def printed() -> str:
            return os.pread(output.fileno(), 1 << 20, 0).decode()

        try:
            until(lambda: process.poll() is not None or bool(_PORT.search(printed())))
            started = _PORT.search(printed())
            assert started, printed()
            yield Api(f"http://127.0.0.1:{started[1]}/")
        finally:
            process.kill()


@pytest.mark.settings(**AT_ONCE)
def test_spring_verifies_before_and_after_a_rotation(provider: Provider, compiler: Compiler) -> None:
    decoder, application, _ = recipe("Spring Security", provider)
    elsewhere = provider.new_client("elsewhere", audiences=("other",))

    with serving(compiler.program(decoder, application, main="example.Api")) as api:
        rotation = rotate_between(provider, api.verify)
        refused = [
            api.get("").status_code,
            api.get(new_token(provider, elsewhere)).status_code,
            api.get(new_token(provider, scope="write")).status_code,
        ]

    assert len(rotation.key_ids) == 2
    assert rotation.subjects == ["reports"] * 3
    assert refused == [401, 401, 403]


def test_spring_refuses_the_type_of_access_tokens_unless_it_is_told(
    provider: Provider, compiler: Compiler
) -> None:
    _, application, _ = recipe("Spring Security", provider)
    option = f"--spring.security.oauth2.resourceserver.jwt.issuer-uri={provider.issuer}"

    with serving(compiler.program(application, main="example.Api"), option) as api:
        assert "typ" in api.verify(new_token(provider))["refused"]


def test_spring_refuses_a_revoked_token_at_once_if_it_asks(provider: Provider, compiler: Compiler) -> None:
    _, application, introspection = recipe("Spring Security", provider)
    _, secret = provider.new_client("gateway", scopes=("identity.verify",))
    elsewhere = provider.new_client("elsewhere", audiences=("other",))
    token = new_token(provider)
    asking = compiler.program(application, introspection, main="example.Api")
    asking = replace(asking, environment={**asking.environment, "CLIENT_SECRET": secret})

    with serving(asking) as api:
        before = api.verify(token)
        url = f"{provider.issuer}/oauth2/revoke"
        requests.post(url, data={"token": token}, auth=provider.credentials, timeout=PATIENCE)
        after = [api.get(token).status_code, api.get(new_token(provider, elsewhere)).status_code]

    assert before == {"sub": "reports"}
    assert after == [401, 401]
