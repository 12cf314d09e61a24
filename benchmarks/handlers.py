"""Measures bars S2 and S6 without a transport. Run it as `python -m benchmarks.handlers`.

The handlers of Issue and Verify take bytes and return bytes in one thread of this process, as an engine calls
them, on an embedded store with the default settings. The figures are ratios of CPU time of the whole process,
with all its threads, to the CPU time of the bare ES256 signature or check by `cryptography`, which take turns
with them.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import names
from benchmarks.measure import Bench, Figures, Findings
from benchmarks.processes import BenchmarkError, Cores, on_core
from identity_service.bootstrap import Service
from identity_service.composition.store_admin import open_store_admin
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identity_service.grpc_api.asgi.context import AsgiContext
from identity_service.grpc_api.engine import UnaryHandler
from identity_service.settings import Settings
from identity_service.telemetry import logs
from identityapi.v1 import identity_service_pb2 as pb

_CALLS: Final = 50
"""The number of calls of each kind in one round."""
_SHORT_ROUNDS: Final = 20
"""The number of such rounds in one round of the benchmark."""
_SECONDS: Final = 300.0
_PROGRAM: Final = ("-m", "benchmarks.handlers")
_CLIENT: Final = Client(
    client_id=PrincipalId("reports"), audiences=frozenset({"api"}), scopes=frozenset({"read", "write"})
)
_SCOPE: Final[Mapping[str, Any]] = {
    "headers": [
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-python/1.85.1 grpc-c/53.0.0"),
    ],
    "client": ("127.0.0.1", 50000),
}
"""The parts of an ASGI scope that a handler reads."""


def trial(bench: Bench) -> Findings:
    """Measure bar S6 in a separate process, which has the threads of a service alone."""
    bench.say("Issue without a transport")
    command = [bench.python, *_PROGRAM, "--rounds", str(bench.rounds * _SHORT_ROUNDS), "--all"]
    run = subprocess.run(
        [*command, "--core", str(bench.cores.server)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    if run.returncode:
        raise BenchmarkError(f"the handlers could not be measured:\n{run.stderr[-1000:]}")
    titles = {
        ("issue", names.ISSUE_CPU): "CPU of an Issue, without a transport",
        ("sign", names.ISSUE_SIGNATURE): "ES256 signature alone, same process",
    }
    found = json.loads(run.stdout)
    return Findings(
        figures={
            name: Figures(title=title, unit="µs", values=_rounds(found[kind]))
            for (kind, name), title in titles.items()
        }
    )


def _rounds(values: Sequence[float]) -> list[float]:
    """Return the median of each group of short rounds."""
    starts = range(0, len(values), _SHORT_ROUNDS)
    return [statistics.median(values[at : at + _SHORT_ROUNDS]) for at in starts]


def main() -> None:
    """Measure, and print the median of each kind of round, in µs, and the ratios with their quartiles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handlers")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--core", type=int, help="to run on; default the first")
    parser.add_argument("--all", action="store_true", help="print every round instead")
    asked = parser.parse_args()
    with on_core(Cores.choose().server if asked.core is None else asked.core):
        found = measure(asked.rounds)
        print(json.dumps(found if asked.all else _summary(found), indent=2))


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the µs of CPU time of one call in each round, by the kind of call."""
    found: dict[str, list[float]] = {"issue": [], "sign": [], "verify": [], "check": []}
    key, scheme = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    with _handlers() as (issue, verify, request):
        message = _token(issue(request)).rpartition(".")[0].encode()
        signature, public = key.sign(message, scheme), key.public_key()
        for _ in range(rounds):
            took, answers = _each(issue, [request] * _CALLS)
            found["issue"].append(took)
            found["sign"].append(_each(lambda _: key.sign(message, scheme), range(_CALLS))[0])
            took, verified = _each(verify, [_verification(answer) for answer in answers])
            found["verify"].append(took)
            check = _each(lambda _: public.verify(signature, message, scheme), range(_CALLS))[0]
            found["check"].append(check)
            if not all(pb.VerifyResponse.FromString(answer).HasField("verified") for answer in verified):
                raise AssertionError("a good token was refused")
    return found


@contextmanager
def _handlers() -> Iterator[tuple[Callable[[bytes], bytes], Callable[[bytes], bytes], bytes]]:
    """Yield the handlers of Issue and of Verify, and a serialized request of Issue."""
    with ExitStack() as stack:
        nothing = stack.enter_context(Path(os.devnull).open("w"))
        with redirect_stderr(nothing):  # the log is rendered and written, but not shown
            logs.configure("info", "json")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="identity-bench-"))
        settings = Settings(
            store=f"sqlite:///{folder}/identity.db", master_key="only for this benchmark, " * 2
        )
        with open_store_admin(settings) as store_admin:
            store_admin.initialise()
            _, secret = store_admin.administrator.clients.create(_CLIENT)
        service = Service(settings, behind_asgi=True)
        stack.callback(service.stop)
        service.start()
        engine: Any = service.app
        handlers: Mapping[str, UnaryHandler] = engine._handlers  # noqa: SLF001  # below the transport
        issue, verify = (handlers[f"/identityapi.v1.IdentityService/{n}"].answer for n in ("Issue", "Verify"))
        request = pb.IssueRequest()
        request.credential.client_secret.client_id = _CLIENT.client_id
        request.credential.client_secret.client_secret = secret.reveal() if secret is not None else ""
        yield (
            lambda data: issue(data, AsgiContext(_SCOPE)),
            lambda data: verify(data, AsgiContext(_SCOPE)),
            request.SerializeToString(),
        )


def _token(answer: bytes) -> str:
    return pb.IssueResponse.FromString(answer).token_set.access_token


def _verification(answer: bytes) -> bytes:
    """Return a serialized request of Verify for the token in an answer of Issue."""
    request = pb.VerifyRequest(token=_token(answer), audiences=["api"], required_scopes=["read"])
    return request.SerializeToString()


def _each(call: Callable[[Any], Any], items: Iterable[Any]) -> tuple[float, list[Any]]:
    """Return the µs of CPU time of this process for one of `_CALLS` calls, and the answers."""
    begun = time.process_time()
    answers = [call(item) for item in items]
    return (time.process_time() - begun) / _CALLS * 1e6, answers


def _summary(found: Mapping[str, list[float]]) -> dict[str, object]:
    return {
        **{f"{name}_us": round(statistics.median(values), 1) for name, values in found.items()},
        "issue / sign": _ratio(found["issue"], found["sign"]),
        "verify / check": _ratio(found["verify"], found["check"]),
    }


def _ratio(over: list[float], under: list[float]) -> dict[str, float]:
    lower, median, upper = statistics.quantiles([a / b for a, b in zip(over, under, strict=True)], n=4)
    return {"median": round(median, 2), "lower quartile": round(lower, 2), "upper quartile": round(upper, 2)}


if __name__ == "__main__":
    main()
