"""A flood of refused calls: other clients get their answers, and their events stay in the audit trail."""

from identityapi.v1 import principal_pb2
from tests.abuse.abuser import abusing
from tests.abuse.conftest import StartSite
from tests.patience import until

KEPT = "1000"
"""The fewest events that the store may be set to keep."""


def test_refused_calls_delay_no_other_client(start_site: StartSite) -> None:
    site = start_site()

    with abusing("refused", site.target):
        assert site.bystander.failures() == {}
    assert site.bystander.failures() == {}

    site.terminate()


def test_refused_calls_push_no_change_out_of_the_audit_trail(start_site: StartSite) -> None:
    """Half as many again are refused as the store keeps events, after a client was made."""
    site = start_site(audit_entries=KEPT)
    with site.running.administrator() as administrator:
        administrator.create_client(principal_pb2.Client(client_id="made-before"))

    with abusing("refused", site.target):
        assert site.bystander.failures() == {}
        until(lambda: site.installation.log.count('"reason":"CALLER_UNAUTHENTICATED"') >= 1_500)

    site.terminate()  # everything that waits for the store is written
    with site.installation.serve() as service:
        with service.administrator() as administrator:
            (event,) = administrator.list_audit_events(types=["client_created"], principal="made-before")
        assert event.target == "made-before"
