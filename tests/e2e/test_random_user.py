"""The service under a user id that is not in /etc/passwd, as OpenShift assigns it, and without a home."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identityapi.v1 import principal_pb2
from tests.e2e.namespaces import can_unshare
from tests.e2e.process import Installation
from tests.faults.copied_site import PASSWORD
from tests.platforms.authorities import KUBEADM, ClusterAuthority
from tests.platforms.kubernetes import KubeApiserver

AS_NOBODY_IN_PARTICULAR = ("unshare", "--user", "--map-user=1000650000", "--map-group=0")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(*AS_NOBODY_IN_PARTICULAR[1:]), reason="no user namespaces here"),
]


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_people_and_pods_of_a_cluster_with_its_own_authority_sign_in(tmp_path: Path, engine: str) -> None:
    authority = ClusterAuthority(tmp_path / "serviceaccount", KUBEADM)
    token_file = tmp_path / "serviceaccount" / "token"
    token_file.write_text("of.the.pod")
    token_file.chmod(0o440)
    with KubeApiserver(tls=authority.server(), tokens={"of.the.pod"}) as cluster:
        entry = {"url": cluster.origin, "ca_file": str(authority.file), "token_file": str(token_file)}
        installation = Installation(
            tmp_path, f"sqlite:///{tmp_path}/identity.db", {"IDENTITY_JWKS_SERVERS": json.dumps([entry])}
        )
        installation.init()
        installation.launcher = (*AS_NOBODY_IN_PARTICULAR, "env", "-u", "HOME")
        with installation.serve("--engine", engine) as service:
            service.create_user("ana", PASSWORD)
            rule = principal_pb2.TrustRule(
                client_id="reports", claims={"sub": "system:serviceaccount:billing:reports"}
            )
            issuer = principal_pb2.TrustedIssuer(issuer=cluster.issuer, jwks_uri=cluster.url, rules=[rule])
            with service.administrator() as administrator:
                reports = principal_pb2.Client(client_id="reports", audiences=["api"])
                administrator.create_client(reports, no_secret=True)
                administrator.create_trusted_issuer(issuer)
            pod = cluster.token(datetime.now(UTC), "billing:reports", audience="identity-service")
            with service.client() as client:
                assert client.issue_with_password("ana", PASSWORD, audiences=["api"]).access_token
                assert client.issue_with_federated_token(pod, audiences=["api"]).access_token
            assert service.terminate() == 0
    assert installation.events("rpc_bug") == []
