"""The names of all figures, shared by the code that measures and the code that judges."""

from typing import Final

# Throughput, in one alternation on the same two cores.
EMPTY: Final = "empty"
VERIFY: Final = "verify"
VERIFY_NEW: Final = "verify-new"
RAW_VERIFY: Final = "raw-es256-verify"
BATCH: Final = "verify-batch"
ISSUE: Final = "issue"
REFRESH: Final = "refresh"
LOAD_CEILING: Final = "load-ceiling"
FASTAPI: Final = "fastapi"
NODE: Final = "node-oidc-provider"
ENVOY_VERIFY: Final = "envoy-verify"
ENVOY_ISSUE: Final = "envoy-issue"
ENVOY_BATCH: Final = "envoy-verify-batch"
GO_EMPTY: Final = "go-empty"
GO_VERIFY: Final = "go-verify"
GO_REMEMBERS: Final = "go-remembers"
GO_BATCH: Final = "go-remembers-batch"

# In the process of a client.
LOCAL_SEEN: Final = "local-seen"
LOCAL_NEW: Final = "local-new"
LOCAL_RAW: Final = "local-raw-es256-verify"

# A million denials.
DENIALS_NONE: Final = "verify-0-denials"
DENIALS_FULL: Final = "verify-1000000-denials"
DENIAL_BYTES: Final = "bytes-each-denial"
REPLICA_ALONE: Final = "replica-seconds"
COLD_START: Final = "cold-start-seconds"

# Until everybody knows of a revocation.
FEW_WATCHERS: Final = 50
MANY_WATCHERS: Final = 1000


def spread(watchers: int, quantile: str) -> str:
    """Return the name of the time until the last recipient knows; `quantile` is p50 or p99."""
    return f"spread-{watchers}-watchers-{quantile}"


STREAM_ENDS: Final = "guarded-stream-ends-p99"

# One process.
WORKER_MEMORY: Final = "idle-worker-mb"
ALONE_MEMORY: Final = "idle-alone-mb"
SOAK_CALLS: Final = "soak-calls"
SOAK_GROWTH: Final = "soak-growth"
SOAK_GOOD: Final = "soak-good"

# Beside passwords.
ALONE_P99: Final = "verify-p99"
BESIDE_P99: Final = "verify-p99-beside-sign-ins"
