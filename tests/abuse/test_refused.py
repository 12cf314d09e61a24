"""Tests of a flood of refused calls: it must not block other clients, nor displace their audit events."""

from identityapi.v1 import principal_pb2
from tests.abuse.abuser import abusing
from tests.abuse.conftest import StartSite
from tests.patience import until

KEPT = "1000"
"""The smallest number of audit events to which the setting may limit the store."""


def test_refused_calls_delay_no_other_client(start_site: StartSite) -> None:
    site = start_site()

    with abusing("refused", site.target):
        assert site.bystander.failures() == {}
    assert site.bystander.failures() == {}

    site.terminate()


def test_refused_calls_push_no_change_out_of_the_audit_trail(start_site: StartSite) -> None:
    """A client is created, then 1,500 calls are refused, while the store keeps only 1,000 events.

    The event of the creation must still be in the audit trail.
    """
    site = start_site(audit_entries=KEPT)
    with site.running.administrator() as administrator:
        administrator.create_client(principal_pb2.Client(client_id="made-before"))

    with abusing("refused", site.target):
        assert site.bystander.failures() == {}
        until(lambda: site.installation.log.count('"reason":"CALLER_UNAUTHENTICATED"') >= 1_500)

    site.terminate()  # the service first writes all waiting events to the store
    with site.installation.serve() as service:
        with service.administrator() as administrator:
            (event,) = administrator.list_audit_events(types=["client_created"], principal="made-before")
        assert event.target == "made-before"
