"""The names of all figures, shared by the code that measures and the code that judges."""

from typing import Final

ENGINES: Final = ("grpcio", "envoy")

# Throughput, in one alternation on the same two cores.
EMPTY: Final = "empty"
VERIFY: Final = "verify"
VERIFY_NEW: Final = "verify-new"
RAW_VERIFY: Final = "raw-es256-verify"
BATCH: Final = "verify-batch"
ISSUE: Final = "issue"
OAUTH: Final = "oauth-token"
REFRESH: Final = "refresh"
LOAD_CEILING: Final = "load-ceiling"
FASTAPI: Final = "fastapi"
NODE: Final = "node-introspection"
NODE_ISSUE: Final = "node-client-credentials"
ENVOY_VERIFY: Final = "envoy-verify"
ENVOY_VERIFY_NEW: Final = "envoy-verify-new"
ENVOY_ISSUE: Final = "envoy-issue"
ENVOY_BATCH: Final = "envoy-verify-batch"
GO_EMPTY: Final = "go-empty"
GO_VERIFY: Final = "go-verify"
GO_REMEMBERS: Final = "go-remembers"
GO_BATCH: Final = "go-remembers-batch"

# ext_authz, in the same alternation: the time of a call at half the highest rate.
CHECK_P99: Final = "check-p99"
ENVOY_CHECK_P99: Final = "envoy-check-p99"

# CPU time of one call, and of one bare ES256 signature in the same process and run, in microseconds.
ISSUE_CPU: Final = "issue-cpu"
ISSUE_SIGNATURE: Final = "issue-bare-signature"
REFRESH_CPU: Final = "refresh-cpu"
REFRESH_SIGNATURE: Final = "refresh-bare-signature"

# Microseconds per token for the local verifier (a seen token, a new one), and for a bare ES256 verification.
LOCAL_SEEN: Final = "local-seen"
LOCAL_NEW: Final = "local-new"
LOCAL_RAW: Final = "local-raw-es256-verify"

# A million denials.
DENIALS_NONE: Final = "verify-0-denials"
DENIALS_FULL: Final = "verify-1000000-denials"
DENIAL_BYTES: Final = "bytes-each-denial"
REPLICA_ALONE: Final = "replica-seconds"
COLD_START: Final = "cold-start-seconds"

# Until every process and watcher has received a revocation.
FEW_WATCHERS: Final = 50
MANY_WATCHERS: Final = 1000


def spread(watchers: int, quantile: str) -> str:
    """Return the name of the time until the last recipient knows; `quantile` is p50 or p99."""
    return f"spread-{watchers}-watchers-{quantile}"


# Guards.
STREAM_ENDS: Final = "guarded-stream-ends-p99"
GUARD_THREADS: Final = "guard-adds-threads"
GUARD_ASYNCIO: Final = "guard-adds-asyncio"

# One process.
WORKER_MEMORY: Final = "idle-worker-mb"
WORKER_CPU: Final = "idle-worker-cpu"
ALONE_MEMORY: Final = "idle-alone-mb"


def soak(engine: str, figure: str) -> str:
    """Return the name of a figure of a soak: calls, growth, good or memory."""
    return f"soak-{engine}-{figure}"


# Beside passwords.
ALONE_P99: Final = "verify-p99"
BESIDE_P99: Final = "verify-p99-beside-sign-ins"
LOOP_P99: Final = "verify-p99-beside-idle-loop"


# Two cores.
def workers(engine: str, count: int) -> str:
    """Return the name of the rate of this number of workers."""
    return f"{engine}-{count}-workers"


# Beside strangers.
def strangers(engine: str, figure: str) -> str:
    """Return the name of a figure over all abuses: p99 or failed."""
    return f"strangers-{engine}-{figure}"
