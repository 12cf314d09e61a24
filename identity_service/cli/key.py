"""`identity key`: the signing keys."""

import typer

from identity_client.values import moment
from identity_service.cli.output import JsonFlag, show_table
from identity_service.cli.remote import Service, remote
from identityapi.v1 import trust_service_pb2 as pb

app = typer.Typer(help="The keys that tokens are signed with.", no_args_is_help=True)


@app.command("list")
@remote
def list_keys(service: Service, as_json: JsonFlag = False) -> None:
    """List the published keys, the oldest first, with the one that signs now."""
    with service.admin() as admin:
        rows = [
            {
                "key_id": key.key_id,
                "algorithm": key.algorithm,
                "state": pb.KeyState.Name(key.state).removeprefix("KEY_STATE_").lower(),
                "activate_time": moment(key.activate_time),
            }
            for key in admin.list_keys()
        ]
    show_table(rows, as_json=as_json, empty="no keys")
