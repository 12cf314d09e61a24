"""Command-line options that several commands share."""

from datetime import timedelta
from typing import Annotated

import typer

from identity_client.requests import Encryption, IssueOptions
from identity_service.cli.option_groups import OptionsOf

AudienceOption = Annotated[
    list[str] | None, typer.Option("--audience", "-a", help="Audience of tokens. Repeatable.")
]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", "-s", help="Scope of tokens. Repeatable.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def _wanted(
    *,
    audience: AudienceOption = None,
    scope: ScopeOption = None,
    lifetime: Annotated[
        int | None, typer.Option(help="Lifetime of the access token, in seconds.", min=1)
    ] = None,
    encrypt: Annotated[
        Encryption,
        typer.Option(help="Encrypt for this service (only Verify opens it) or the one audience."),
    ] = "none",
) -> IssueOptions:
    return IssueOptions(
        audiences=audience or (),
        scopes=scope or (),
        lifetime=timedelta(seconds=lifetime) if lifetime is not None else None,
        encryption=encrypt,
    )


WantedToken = Annotated[IssueOptions, OptionsOf(_wanted)]
"""The properties of the access token that a command requests."""
