"""The pace of the machine: the rate of a bare ES256 signature, measured between the rounds.

A machine whose cores are shared or change their frequency is faster in one round than in the next. Each value
of a round is divided by the pace beside it, so that the ratio of two sides depends less on when each of them
was measured.
"""

import time
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.processes import on_core

Pace = Callable[[], float]
"""A function that measures the pace now, in signatures per second."""
_SECONDS: Final = 0.1
_MESSAGE: Final = b"The same text each time, as long as the claims of a short token. " * 4


def bare_signatures(*cores: int) -> Pace:
    """Return a function that measures signatures per second, the mean over these cores."""
    key, algorithm = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())

    def measure() -> float:
        rates = list[float]()
        for core in cores:
            with on_core(core):
                begun, count = time.perf_counter(), 0
                while (now := time.perf_counter()) - begun < _SECONDS:
                    key.sign(_MESSAGE, algorithm)
                    count += 1
                rates.append(count / (now - begun))
        return sum(rates) / len(rates)

    return measure
