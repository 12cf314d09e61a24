"""Measures bar S4: `LocalVerifier` of the Python client. Run it as `python -m benchmarks.local`.

A service on an embedded store runs in this process; the client follows it over a real channel. Only calls of
`LocalVerifier.verify` are measured, and each of them must verify its token.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import names
from benchmarks.measure import Bench, Figures, Findings
from benchmarks.processes import BenchmarkError, Cores, on_core
from identity_client import IdentityClient, LocalVerifier, Verified
from identity_service.adapters.clock import SystemClock
from identity_service.bootstrap import Service
from identity_service.composition.opening import open_hasher, open_store
from identity_service.composition.store_admin import StoreAdmin
from identity_service.composition.wiring import store_administration
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identity_service.settings import Settings
from identity_service.telemetry import logs

_TOKENS: Final = 2000
_SECONDS: Final = 300.0
_PROGRAM: Final = (sys.executable, "-m", "benchmarks.local")


def trial(bench: Bench) -> Findings:
    """Measure in a separate process, which has the memory and threads of a client."""
    bench.say("verifying in the client")
    run = subprocess.run(
        [*_PROGRAM, "--rounds", str(bench.rounds), "--core", str(bench.cores.server)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    if run.returncode:
        raise BenchmarkError(f"the local verifier could not be measured:\n{run.stderr[-1000:]}")
    rounds = json.loads(run.stdout)
    titles = {
        names.LOCAL_SEEN: "LocalVerifier, seen token",
        names.LOCAL_NEW: "LocalVerifier, new token",
        names.LOCAL_RAW: "ES256 verify alone, same process",
    }
    return Findings(
        figures={name: Figures(title=title, unit="µs", values=rounds[name]) for name, title in titles.items()}
    )


def main() -> None:
    """Measure, and print the microseconds of each round as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", type=int, help="to run on; default the first")
    asked = parser.parse_args()
    logs.configure("error", "json")
    with on_core(Cores.choose().server if asked.core is None else asked.core):
        print(json.dumps(measure(asked.rounds)))


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the microseconds in each round: for a seen token, a new token, and the primitive alone."""
    found: dict[str, list[float]] = {names.LOCAL_SEEN: [], names.LOCAL_NEW: [], names.LOCAL_RAW: []}
    with running_service() as (target, issuer, tokens):
        key = ec.generate_private_key(ec.SECP256R1())
        message = tokens[0].rpartition(".")[0].encode()
        signature, public = key.sign(message, ec.ECDSA(hashes.SHA256())), key.public_key()
        for _ in range(rounds):
            with LocalVerifier(target, issuer=issuer) as verifier:
                verifier.wait_ready()

                def check(token: str, verifier: LocalVerifier = verifier) -> None:
                    if type(verifier.verify(token, audiences=ASKS, required_scopes=_SCOPES)) is not Verified:
                        raise AssertionError("a good token was refused")

                found[names.LOCAL_NEW].append(_each(check, tokens))
                found[names.LOCAL_SEEN].append(_each(check, tokens[:20] * 500))
            found[names.LOCAL_RAW].append(
                _each(lambda _: public.verify(signature, message, ec.ECDSA(hashes.SHA256())), tokens)
            )
    return found


ASKS: Final = ("api",)
"""The audiences that the verifier accepts."""
_SCOPES = ("read",)


def _each(call: Callable[[str], object], tokens: Sequence[str]) -> float:
    """Return the microseconds of one call."""
    begun = time.perf_counter()
    for token in tokens:
        call(token)
    return (time.perf_counter() - begun) / len(tokens) * 1e6


@contextmanager
def running_service(tokens: int = _TOKENS) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the address of a service, its issuer, and this number of new tokens."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="identity-bench-")))
        settings = Settings(
            store=f"sqlite:///{folder}/identity.db",
            listen="127.0.0.1:0",
            master_key="only for this benchmark, " * 2,
        )
        clock = SystemClock()
        store = open_store(settings, clock)
        administrator = store_administration(
            store.records, open_hasher(settings), clock, settings.issuer_names
        )
        StoreAdmin(settings=settings, store=store, administrator=administrator, clock=clock).initialise()
        reports = Client(
            client_id=PrincipalId("reports"), audiences=frozenset(ASKS), scopes=frozenset({"read", "write"})
        )
        _, secret = administrator.clients.create(reports)
        service = Service(settings, clock=clock, store=store)
        target = f"127.0.0.1:{service.start()}"
        stack.callback(service.stop)
        client = stack.enter_context(IdentityClient(target))
        shown = secret.reveal() if secret is not None else ""
        issued = [client.issue_with_secret("reports", shown).access_token for _ in range(tokens)]
        yield target, settings.issuer, issued


if __name__ == "__main__":
    main()
