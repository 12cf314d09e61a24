"""`identity token exchange`: gets a token to act for the subject of another token (RFC 8693).

Both tokens are read from files: other users of the machine can read command-line arguments.
"""

from pathlib import Path
from typing import Annotated

import typer

from identity_client.credentials import by_certificate, by_secret
from identity_service.cli.caller import read_client_secret
from identity_service.cli.options import WantedToken
from identity_service.cli.output import JsonFlag, fail
from identity_service.cli.remote import Connected
from identity_service.cli.token import Certificate, ClientId, Print, app, read_token, show_tokens


@app.command("exchange")
def exchange(
    *,
    subject_token_file: Annotated[
        Path,
        typer.Argument(help="File with the subject token, or - for standard input.", dir_okay=False),
    ],
    client_id: ClientId = None,
    certificate: Certificate = False,
    actor_token_file: Annotated[
        Path | None,
        typer.Option(help="File with the actor's token. Default: the client is the actor.", dir_okay=False),
    ] = None,
    wanted: WantedToken,
    only: Print = None,
    service: Connected,
    as_json: JsonFlag = False,
) -> None:
    """Get a token to act for the subject of another token. It grants no more and lives no longer."""
    if client_id is None and not certificate:
        fail("name the client that exchanges the token: give --client-id or --certificate")
    subject = _read(subject_token_file, "the subject token")
    actor = _read(actor_token_file, "the actor token") if actor_token_file is not None else None
    credential = by_certificate() if certificate else by_secret(client_id or "", read_client_secret())
    with service.identity() as client:
        tokens = client.exchange(subject, credential, actor_token=actor, **wanted)
        show_tokens(tokens, only, as_json=as_json)


def _read(file: Path, what: str) -> str:
    try:
        text = read_token("-") if str(file) == "-" else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        # Neither the file name nor the library's error is shown: both contain the token if a caller passes
        # the token itself instead of a file.
        fail(f"{what} cannot be read: give the path of a file that contains it")
    return text
