"""Builds and runs programs in other languages that call OAuth libraries. Input and output are JSON."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.http.libraries.provider import Provider
from tests.http.libraries.rotation import Verify
from tests.jwts import PartyKey
from tests.patience import PATIENCE

_KEY = PartyKey.make("ES256", "k1")


def require(*tools: str) -> None:
    """Skip the test if one of these tools is not installed.

    In CI, the test fails instead, so that a successful run has tested every library.
    """
    missing = ", ".join(tool for tool in tools if shutil.which(tool) is None)
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {missing}")
    assert not missing, f"not installed: {missing}"


def build(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] = {}) -> None:
    """Run a command that builds a program or downloads its libraries; fail with its output if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=20 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def install_npm(source: Path, folder: Path) -> Path:
    """Install the libraries of the npm lock file of `source` in another folder; return that folder."""
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    build(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], folder)
    return folder


def answer(
    command: Sequence[str | Path], given: object, cwd: Path | None, environment: Mapping[str, str] = {}
) -> Any:
    """Run a program with one line of JSON as its input; return its output, parsed as JSON."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        input=json.dumps(given) + "\n",
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def build_go(sources: Path, folder: Path) -> Path:
    """Build the program of a Go module in this folder; return its path.

    The build has no optimisations, no debug data and no C code, with which it would take half as long again.
    All programs are built with the same options, so that they share the compiled standard library.
    """
    program = folder / "library-tests"
    cheap = ["-gcflags=all=-N -l -dwarf=false", "-ldflags=-w"]
    build(["go", "build", "-mod=readonly", *cheap, "-o", program, "."], sources, {"CGO_ENABLED": "0"})
    return program


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that runs one of several flows, such as a grant. Its first argument names the flow."""

    command: Sequence[str | Path]
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    more: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Members of the input that only some tests have, in addition to the issuer and the credentials of every
    kind of client."""

    def run(self, provider: Provider, *flow: str) -> Any:
        """Run a flow with the issuer and the credentials of every kind of client; return its output."""
        return answer([*self.command, *flow], self._given(provider), self.cwd, self.environment)

    @contextmanager
    def verifying(self, provider: Provider, *flow: str) -> Iterator[Verify]:
        """Start a flow that verifies tokens, and stop it after the block.

        Yields a function that sends one token to the program, and returns the claims that the library has
        verified.
        """
        with subprocess.Popen(
            [*self.command, *flow],
            cwd=self.cwd,
            env=os.environ | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            to_program, from_program = process.stdin, process.stdout

            def verify(token: str) -> Mapping[str, Any]:
                to_program.write(f"{token}\n")
                to_program.flush()
                claims: Mapping[str, Any] = json.loads(from_program.readline())
                return claims

            try:
                to_program.write(json.dumps(self._given(provider)) + "\n")
                yield verify
                to_program.close()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()

    def _given(self, provider: Provider) -> Mapping[str, object]:
        client_id, client_secret = provider.credentials
        federated = provider.federated
        return {
            "issuer": provider.issuer,
            "audience": provider.audience,
            "clientId": client_id,
            "clientSecret": client_secret,
            "keyClientId": provider.new_key_client(_KEY),
            "privateJwk": json.loads(_KEY.private_jwk) | {"alg": _KEY.algorithm},
            "publicClientId": provider.new_public_client(),
            "username": provider.username,
            "password": provider.password,
            "federatedClientId": federated.client_id,
            "assertion": federated.assertion(),
            "assertionIssuer": federated.issuer,
            "assertionSubject": federated.subject,
            "assertionKey": federated.private_pem,
            "assertionKeyId": federated.key.key_id,
            **self.more,
        }
