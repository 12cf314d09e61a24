"""`identity key`: manages the keys for signing, for refresh tokens and for encryption."""

from typing import Annotated

import typer

from identity_client.values import moment
from identity_service.cli.options import YesOption
from identity_service.cli.output import JsonFlag, show, show_table
from identity_service.cli.records import confirm
from identity_service.cli.remote import Service, remote
from identityapi.v1 import trust_service_pb2 as pb

app = typer.Typer(
    help="Manage the keys for signing, for refresh tokens and for encryption.", no_args_is_help=True
)

_PURPOSES = {
    "sign": pb.KEY_PURPOSE_SIGN,
    "refresh": pb.KEY_PURPOSE_REFRESH,
    "encrypt": pb.KEY_PURPOSE_ENCRYPT,
}


@app.command("list")
@remote
def list_keys(service: Service, as_json: JsonFlag = False) -> None:
    """List the keys, with the purpose and state of each."""
    with service.admin() as admin:
        rows = [_row(key) for key in admin.list_keys()]
    show_table(rows, as_json=as_json, empty="no keys")


@app.command("rotate")
@remote
def rotate(
    service: Service,
    algorithm: Annotated[
        str, typer.Option(help="Algorithm of the next key and later ones. Default: unchanged.")
    ] = "",
    purpose: Annotated[str, typer.Option(help="Purpose of the key: sign, refresh or encrypt.")] = "sign",
    as_json: JsonFlag = False,
) -> None:
    """Put the next key into use, once it has been published long enough."""
    if purpose not in _PURPOSES:
        raise typer.BadParameter("must be sign, refresh or encrypt", param_hint="--purpose")
    with service.admin() as admin:
        key = admin.rotate_keys(algorithm=algorithm, purpose=_PURPOSES[purpose])
    show(_row(key), as_json=as_json)


@app.command("retire")
@remote
def retire(
    service: Service,
    key_id: Annotated[str, typer.Argument(help="The kid, as shown by `identity key list`.")],
    reason: Annotated[str, typer.Option(help="Reason, recorded in the audit event.")] = "",
    yes: YesOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Retire a key that may be known to others: everything made with it is refused at once and for ever."""
    confirm(f"Retire {key_id}, and refuse everything that was made with it, for ever?", yes=yes)
    with service.admin() as admin:
        retired = admin.retire_key(key_id, reason=reason)
    successor = retired.successor.key_id
    done = {"key_id": key_id, "retired": True, "revision": retired.revision, "in_use": successor}
    show(done, as_json=as_json)


@app.command("rewrap")
@remote
def rewrap(service: Service, as_json: JsonFlag = False) -> None:
    """Seal every key under the current master key of the service, after a change of it: see docs/keys.md."""
    with service.admin() as admin:
        done = admin.rewrap_keys()
    show({"rewrapped": done.rewrapped, "total": done.total}, as_json=as_json)


def _row(key: pb.PublishedKey) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "purpose": pb.KeyPurpose.Name(key.purpose).removeprefix("KEY_PURPOSE_").lower(),
        "algorithm": key.algorithm,
        "state": pb.KeyState.Name(key.state).removeprefix("KEY_STATE_").lower(),
        "activate_time": moment(key.activate_time),
        "expire_time": moment(key.expire_time) if key.HasField("expire_time") else None,
    }
