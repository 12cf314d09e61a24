"""A stopping process reports NOT_SERVING, even if a thread finds it fresh at the same time."""

from typing import Any, Final

from grpc_health.v1 import health_pb2

from identity_service.grpc_api.health import HealthServicer

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_thread_that_finds_the_process_fresh_while_it_stops_changes_nothing() -> None:
    class Senders:
        """Senders that let the other thread report whenever the status changes."""

        def wake(self, watch: object) -> None:
            health.set("", SERVING)

    senders: Any = Senders()
    health: Any = HealthServicer(senders)
    health.set("", SERVING)
    health._watches[""] = {"a watch"}

    health.enter_graceful_shutdown()

    assert health.check(health_pb2.HealthCheckRequest(), None).status == NOT_SERVING
