"""Starts the servers that the chosen sides need, and builds the sides. The module knows no bar's limit."""

import base64
import contextlib
import functools
import json
import os
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import Message

from benchmarks import names, peers, redis_server, service
from benchmarks.load import CHECK_PATH, SERVICE
from benchmarks.measure import FAILURES, Bench, Side, reason_of
from benchmarks.peers import build
from benchmarks.processes import BenchmarkError, Process
from benchmarks.service import AUDIENCE, BATCH, DENIALS, SCOPE, SESSIONS, Service
from benchmarks.sides import Check, GrpcSide, HalfLoadSide, HttpSide, LoadSide, WorkSide

LOOPBACK: Final = "127.0.0.1"
POOL: Final = 4_000
"""The number of tokens that are used in turn; the server remembers a few hundred, so each is new to it
whenever it comes again."""
_FEW_REMEMBERED: Final = {"IDENTITY_CACHE_BYTES": str(2**20)}
_FORM: Final = "application/x-www-form-urlencoded"


class Lineup:
    """The servers; each is started when the first side needs it, and ended with the stack."""

    def __init__(self, stack: contextlib.ExitStack, bench: Bench) -> None:
        self._stack = stack
        self._cores = bench.cores
        self._python = bench.python
        self._directory = bench.root / "lineup"
        self._directory.mkdir()
        self._say = bench.say
        self._started: dict[str, Any] = {}

    def engine(self, name: str) -> str:
        """Return the address of the service on this engine, `grpcio` or `envoy`."""
        return self._service.target if name == "grpcio" else self._envoy

    def sides(self, wanted: Iterable[str]) -> tuple[dict[str, Side], dict[str, str]]:
        """Return the sides of these names that can be measured, and the reasons why the others cannot."""
        asked, builders = frozenset(wanted), self.builders()
        ready = dict[str, Side]()
        absent = dict.fromkeys(sorted(asked - builders.keys()), "nothing measures it yet (agenda.py)")
        for name in builders:
            if name not in asked:
                continue
            try:
                ready[name] = builders[name]()
            except FAILURES as error:
                absent[name] = reason_of(error)
                self._say(f"left out: {name}: {absent[name]}")
        return ready, absent

    def builders(self) -> Mapping[str, Callable[[], Side]]:
        """Return the function that builds each side, and starts the servers that it needs."""
        return {
            names.EMPTY: self._empty,
            names.VERIFY: self._verify,
            names.VERIFY_NEW: lambda: self._verify_new("grpcio"),
            names.RAW_VERIFY: self._raw_verify,
            names.BATCH: lambda: self._batch(self._service.target, "VerifyBatch of 100 seen tokens"),
            names.ISSUE: lambda: self._issue(self._service.target, "Issue, client secret, ES256, Redis"),
            names.OAUTH: self._oauth,
            names.REFRESH: self._refresh,
            names.LOAD_CEILING: self._load_ceiling,
            names.FASTAPI: self._fastapi,
            names.NODE: self._node_introspection,
            names.NODE_ISSUE: self._node_issue,
            names.ENVOY_VERIFY: lambda: self._same_verify(self._envoy, "Verify, Envoy engine"),
            names.ENVOY_VERIFY_NEW: lambda: self._verify_new("envoy"),
            names.ENVOY_ISSUE: lambda: self._issue(self._envoy, "Issue, Envoy engine"),
            names.ENVOY_BATCH: lambda: self._batch(self._envoy, "VerifyBatch of 100, Envoy engine"),
            names.GO_EMPTY: lambda: self._empty_call(self._go(remember=True), "grpc-go, empty RPC"),
            names.GO_VERIFY: lambda: self._same_verify(
                self._go(remember=False), "grpc-go, ES256 + denylist map"
            ),
            names.GO_REMEMBERS: lambda: self._same_verify(
                self._go(remember=True), "grpc-go, remembers tokens"
            ),
            names.GO_BATCH: lambda: self._batch(self._go(remember=True), "VerifyBatch of 100, grpc-go"),
            names.CHECK_P99: lambda: self._check(self._service.target, "ext_authz Check"),
            names.ENVOY_CHECK_P99: lambda: self._check(self._envoy, "ext_authz Check, Envoy engine"),
        }

    # What is measured under each name.

    def _empty(self) -> Side:
        return self._empty_call(self._yardstick, "empty RPC")

    def _verify(self) -> Side:
        return self._same_verify(self._service.target, f"Verify, {DENIALS:,} live denials")

    def _same_verify(self, target: str, title: str) -> Side:
        return self._call(target, title, f"{SERVICE}Verify", self.seen)

    def _verify_new(self, engine: str) -> Side:
        settings = _FEW_REMEMBERED | {"IDENTITY_ENGINE": engine}
        running = self._service.launcher.serve(f"few-remembered-{engine}", settings=settings)
        return LoadSide(
            title=f"Verify, {engine} engine, each of {POOL:,} tokens in turn",
            target=running.target,
            cores=self._cores,
            work="verify",
            items=self._pool,
        )

    def _raw_verify(self) -> Side:
        key, message = ec.generate_private_key(ec.SECP256R1()), self.seen.token.rpartition(".")[0].encode()
        signature, public = key.sign(message, ec.ECDSA(hashes.SHA256())), key.public_key()
        return WorkSide(
            title="ES256 verify alone, same core",
            work=lambda: public.verify(signature, message, ec.ECDSA(hashes.SHA256())),
            cores=self._cores,
        )

    def _batch(self, target: str, title: str) -> Side:
        path, unit = f"{SERVICE}VerifyBatch", "tokens/s"
        return self._call(target, title, path, self._seen_batch, per_call=BATCH, unit=unit)

    def _issue(self, target: str, title: str) -> Side:
        return self._call(target, title, f"{SERVICE}Issue", self._service.issue_request())

    def _check(self, target: str, title: str) -> Side:
        return HalfLoadSide(
            closed=self._call(target, title, CHECK_PATH, self._service.check_request()), work="check"
        )

    def _oauth(self) -> Side:
        form = {"grant_type": "client_credentials", "audience": AUDIENCE, "scope": SCOPE}
        return self._post(
            "OAuth token endpoint, client_credentials",
            f"http://{self._service.running.http_target}/oauth2/token",
            form,
            authorization=_basic(*self._service.client_credential),
            check=_good_token,
        )

    def _refresh(self) -> Side:
        self._say(f"{SESSIONS:,} sign-ins")
        return LoadSide(
            title=f"Refresh, {SESSIONS:,} sessions, Redis",
            target=self._service.target,
            cores=self._cores,
            work="refresh",
            items=self._service.sign_in(SESSIONS),
        )

    def _load_ceiling(self) -> Side:
        return LoadSide(
            title="empty RPC, by the load process", target=self._yardstick, cores=self._cores, work="empty"
        )

    def _fastapi(self) -> Side:
        ready = json.loads(self._peer("fastapi", sys.executable, "-m", peers.FASTAPI, self._redis_url))
        return HttpSide(
            title="FastAPI + PyJWT + Redis",
            url=f"http://{LOOPBACK}:{ready['port']}{peers.FASTAPI_PATH}",
            headers={"authorization": f"Bearer {ready['token']}"},
            check=lambda answer: (
                "" if json.loads(answer)["sub"] == peers.FASTAPI_SUBJECT else "another subject"
            ),
            cores=self._cores,
        )

    def _node_introspection(self) -> Side:
        ready = self._node()
        return self._post(
            "node oidc-provider, introspection",
            f"http://{LOOPBACK}:{ready['port']}{peers.NODE_INTROSPECTION_PATH}",
            {"token": ready["token"]},
            authorization=ready["authorization"],
            check=lambda answer: "" if json.loads(answer)["active"] is True else "the token is not active",
        )

    def _node_issue(self) -> Side:
        ready = self._node()
        return self._post(
            "node oidc-provider, client credentials, ES256",
            f"http://{LOOPBACK}:{ready['port']}{peers.NODE_TOKEN_PATH}",
            {"grant_type": "client_credentials", "resource": ready["resource"], "scope": SCOPE},
            authorization=ready["authorization"],
            check=_good_token,
        )

    def _post(
        self, title: str, url: str, form: Mapping[str, str], *, authorization: str, check: Check
    ) -> Side:
        body = self._directory / f"{title}.form"
        body.write_text(urllib.parse.urlencode(form))
        return HttpSide(
            title=title,
            url=url,
            headers={"authorization": authorization, "content-type": _FORM},
            check=check,
            cores=self._cores,
            body=body,
        )

    def _empty_call(self, target: str, title: str) -> Side:
        return GrpcSide(
            title=title,
            target=target,
            path=peers.YARDSTICK_PATH,
            request=b"",
            check=lambda answer: f"{len(answer)} bytes, none expected" if answer else "",
            body=self._directory / "empty.bin",
            cores=self._cores,
        )

    def _call(
        self,
        target: str,
        title: str,
        path: str,
        request: Message,
        *,
        per_call: int = 1,
        unit: str = "calls/s",
    ) -> GrpcSide:
        return GrpcSide(
            title=title,
            target=target,
            path=path,
            request=request.SerializeToString(),
            check=service.CHECKS[path],
            body=self._directory / f"{path.rpartition('/')[2]}.bin",
            cores=self._cores,
            per_call=per_call,
            unit=unit,
        )

    # The servers. One that did not start is not tried again for the next side.

    @functools.cached_property
    def _redis_url(self) -> str:
        return self._stack.enter_context(redis_server.serve(self._directory, self._cores.load))

    @functools.cached_property
    def _yardstick(self) -> str:
        return f"{LOOPBACK}:{self._peer('yardstick', self._python, '-m', peers.YARDSTICK)}"

    @property
    def _service(self) -> Service:
        def start() -> Service:
            self._say("the service starts")
            running = self._stack.enter_context(
                service.serve(self._directory, self._redis_url, self._cores, http=True, python=self._python)
            )
            self._say(f"{DENIALS:,} token ids are denied")
            running.deny(DENIALS)
            return running

        found: Service = self._once("service", start)
        return found

    @functools.cached_property
    def seen(self) -> Any:
        """Return the one request that every verifier gets."""
        return self._service.verify_request()

    @functools.cached_property
    def _seen_batch(self) -> Any:
        return self._service.verify_batch_request()

    @functools.cached_property
    def _pool(self) -> Sequence[str]:
        self._say(f"{POOL:,} tokens are issued")
        return [request.SerializeToString().hex() for request in self._service.verify_requests(POOL)]

    @property
    def _envoy(self) -> str:
        def start() -> str:
            self._say("the Envoy engine starts")
            return self._service.launcher.serve("envoy", options=("--engine", "envoy")).target

        return str(self._once("envoy", start))

    def _go(self, *, remember: bool) -> str:
        def compile_it() -> Path:
            self._say("the grpc-go peer is built")
            return build.go_verify()

        def start() -> str:
            program = self._once("go", compile_it)
            jwks = self._directory / "jwks.json"
            jwks.write_text(self._service.jwks())
            options = ["-jwks", str(jwks), "-issuer", self._service.issuer(), "-denials", str(DENIALS)]
            options += ["-remember"] if remember else []
            port = self._peer(name, str(program), *options, environment={"GOMAXPROCS": "1"})
            return f"{LOOPBACK}:{port}"

        name = "go-remembers" if remember else "go"
        return str(self._once(f"{name}-server", start))

    def _node(self) -> Any:
        def start() -> Any:
            self._say("the oidc-provider peer is installed")
            command = build.node_oidc()
            return json.loads(self._peer("node", *command, environment={"NODE_ENV": "production"}))

        return self._once("node", start)

    def _once(self, name: str, start: Callable[[], Any]) -> Any:
        """Return the result of the first call of `start`, or raise the error of that call."""
        if name not in self._started:
            try:
                self._started[name] = start()
            except FAILURES as error:
                self._started[name] = BenchmarkError(reason_of(error))
        found = self._started[name]
        if isinstance(found, BenchmarkError):
            raise found
        return found

    def _peer(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """Start a peer, and return the line that it prints once it serves."""
        process = Process(
            name,
            command,
            cores=[self._cores.server],
            directory=self._directory,
            env=os.environ | environment if environment else None,
        )
        return self._stack.enter_context(process).first_line()


def _basic(client_id: str, secret: str) -> str:
    """Return the header Authorization of a client (RFC 6749, section 2.3.1)."""
    pair = ":".join(map(urllib.parse.quote_plus, (client_id, secret)))
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _good_token(answer: bytes) -> str:
    """Check an answer of a token endpoint: it has a JWT."""
    return "" if json.loads(answer)["access_token"].count(".") == 2 else "the token is not a JWT"
