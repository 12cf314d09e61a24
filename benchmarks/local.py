"""Bar B4: verifying without asking, by the Python client. Run as `python -m benchmarks.local`.

A service on an embedded store runs in this process; the client follows it over a real channel. Nothing is
measured but calls of `LocalVerifier.verify`, and each of them must say that its token is good.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.processes import Cores, on_core
from identity_client import IdentityClient, LocalVerifier, Verified
from identity_service import logs
from identity_service.bootstrap import Office, Service
from identity_service.clock import SystemClock
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identity_service.opening import open_hasher, open_store
from identity_service.settings import Settings
from identity_service.wiring import office_administration

SEEN_AT_MOST = 3.0
"""µs."""
NEW_AT_MOST = 1.4
"""Times the raw verification of ES256."""
_TOKENS = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    logs.configure("error", "json")
    with on_core(Cores.choose().server):
        seen, new, raw = measure(asked.rounds)
    figures = {"seen_us": seen, "new_us": new, "raw_es256_us": raw, "new_over_raw": new / raw}
    met = seen <= SEEN_AT_MOST and new <= NEW_AT_MOST * raw
    if asked.json:
        print(json.dumps(figures | {"met": met}, indent=2))
    else:
        print(f"seen token           {seen:6.2f} µs   at most {SEEN_AT_MOST} µs")
        print(f"new token            {new:6.2f} µs   at most {NEW_AT_MOST} x raw")
        print(f"raw ES256 verify     {raw:6.2f} µs   new / raw {new / raw:.2f}")
        print(f"B4 {'pass' if met else 'short'}")
    return 0 if met else 1


def measure(rounds: int) -> tuple[float, float, float]:
    """Medians over the rounds, µs for each: a token seen before, one never seen, the primitive alone."""
    with _service() as (target, issuer, tokens):
        key = ec.generate_private_key(ec.SECP256R1())
        message = tokens[0].rpartition(".")[0].encode()
        signature, public = key.sign(message, ec.ECDSA(hashes.SHA256())), key.public_key()
        figures: list[tuple[float, float, float]] = []
        for _ in range(rounds):
            with LocalVerifier(target, issuer=issuer) as verifier:
                verifier.wait_ready()

                def check(token: str, verifier: LocalVerifier = verifier) -> None:
                    if type(verifier.verify(token, audiences=_ASKS, required_scopes=_SCOPES)) is not Verified:
                        raise AssertionError("a good token was refused")

                new = _each(check, tokens)
                seen = _each(check, tokens[:20] * 500)
            raw = _each(lambda _: public.verify(signature, message, ec.ECDSA(hashes.SHA256())), tokens)
            figures.append((seen, new, raw))
    seen, new, raw = (statistics.median(column) for column in zip(*figures, strict=True))
    return seen, new, raw


_ASKS = ("api",)
_SCOPES = ("read",)


def _each(call: Callable[[str], object], tokens: Sequence[str]) -> float:
    """µs for one."""
    begun = time.perf_counter()
    for token in tokens:
        call(token)
    return (time.perf_counter() - begun) / len(tokens) * 1e6


@contextmanager
def _service() -> Iterator[tuple[str, str, list[str]]]:
    """Where it serves, its issuer, and tokens of it that nobody has verified yet."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="identity-bench-")))
        settings = Settings(
            store=f"sqlite:///{folder}/identity.db",
            listen="127.0.0.1:0",
            master_key="only for this benchmark, " * 2,
        )
        clock = SystemClock()
        store = open_store(settings, clock)
        administrator = office_administration(store, open_hasher(settings), clock)
        Office(settings=settings, store=store, administrator=administrator, clock=clock).initialise()
        reports = Client(
            client_id=PrincipalId("reports"), audiences=frozenset(_ASKS), scopes=frozenset({"read", "write"})
        )
        _, secret = administrator.clients.create(reports)
        service = Service(settings, clock=clock, store=store)
        target = f"127.0.0.1:{service.start()}"
        stack.callback(service.stop)
        client = stack.enter_context(IdentityClient(target))
        shown = secret.reveal() if secret is not None else ""
        tokens = [client.issue_with_secret("reports", shown).access_token for _ in range(_TOKENS)]
        yield target, settings.issuer, tokens


if __name__ == "__main__":
    sys.exit(main())
