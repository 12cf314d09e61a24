"""`identity key`: manages the keys for signing, for refresh tokens and for encryption."""

from typing import Annotated, Final, Literal

import typer

from identity_service.cli.messages import values_of
from identity_service.cli.options import YesOption
from identity_service.cli.output import JsonFlag, show, show_table
from identity_service.cli.records import confirm
from identity_service.cli.remote import Remote
from identityapi.v1 import trust_service_pb2 as pb

app = typer.Typer(
    help="Manage the keys for signing, for refresh tokens and for encryption.", no_args_is_help=True
)

_COLUMNS: Final = ("key_id", "purpose", "algorithm", "state", "activate_time", "expire_time")
_PURPOSES: Final = {
    "sign": pb.KEY_PURPOSE_SIGN,
    "refresh": pb.KEY_PURPOSE_REFRESH,
    "encrypt": pb.KEY_PURPOSE_ENCRYPT,
}


@app.command("list")
def list_keys(*, service: Remote, as_json: JsonFlag = False) -> None:
    """List the keys, with the purpose and state of each."""
    with service.admin() as admin:
        rows = [values_of(key, *_COLUMNS) for key in admin.list_keys()]
    show_table(rows, as_json=as_json, empty="no keys")


@app.command("rotate")
def rotate(
    *,
    algorithm: Annotated[
        str, typer.Option(help="Algorithm of the next key and later ones. Default: unchanged.")
    ] = "",
    purpose: Annotated[
        Literal["sign", "refresh", "encrypt"], typer.Option(help="Purpose of the key.")
    ] = "sign",
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Put the next key into use, once it has been published long enough."""
    with service.admin() as admin:
        key = admin.rotate_keys(algorithm=algorithm, purpose=_PURPOSES[purpose])
    show(values_of(key, *_COLUMNS), as_json=as_json)


@app.command("retire")
def retire(
    *,
    key_id: Annotated[str, typer.Argument(help="The kid, as shown by `identity key list`.")],
    reason: Annotated[str, typer.Option(help="Reason, recorded in the audit event.")] = "",
    yes: YesOption = False,
    service: Remote,
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
def rewrap(*, service: Remote, as_json: JsonFlag = False) -> None:
    """Seal every key under the current master key of the service, after a change of it: see docs/keys.md."""
    with service.admin() as admin:
        done = admin.rewrap_keys()
    show({"rewrapped": done.rewrapped, "total": done.total}, as_json=as_json)
