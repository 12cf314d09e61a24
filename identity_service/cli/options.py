"""Command-line options that several commands share."""

from typing import Annotated

import typer

from identity_client.requests import Encryption

AudienceOption = Annotated[
    list[str] | None, typer.Option("--audience", "-a", help="Audience of tokens. Repeatable.")
]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", "-s", help="Scope of tokens. Repeatable.")]
EncryptOption = Annotated[
    Encryption,
    typer.Option("--encrypt", help="Encrypt for this service (only Verify opens it) or the one audience."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
