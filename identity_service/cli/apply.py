"""`identity apply`: makes clients, users and trusted issuers match a file that declares them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from identity_client import IdentityError as CallError
from identity_service.cli.call_errors import code_of
from identity_service.cli.options import YesOption
from identity_service.cli.output import Exit, JsonFlag, fail, put, put_styled, say, show
from identity_service.cli.records import confirm
from identity_service.cli.remote import Remote
from identity_service.cli.remote_records import RemoteRecords
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.secret import Secret
from identity_service.domain.visible import escape
from identity_service.jose.public_keys import StrictKeyChecker
from identity_service.principals.apply import carry_out, plan
from identity_service.principals.plan import Action, Declaration, Step

_MARKS = {Action.CREATE: "+", Action.CHANGE: "~", Action.DELETE: "-"}
_STYLES = {Action.CREATE: "green", Action.CHANGE: "yellow", Action.DELETE: "red"}


def apply(
    *,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file, or - for standard input.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the differences, change nothing; exit 5 if any.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Also delete records that the file does not name, in the sections that it has."
        ),
    ] = False,
    yes: YesOption = False,
    service: Remote,
    as_json: JsonFlag = False,
) -> None:
    """Make clients, users and trusted issuers match a file; exit 0 once they do.

    Records that already match stay untouched, so applying the same file again changes nothing.
    """
    declaration = _read(file)
    with service.admin_as() as (admin, caller_id):
        records = RemoteRecords(admin)
        steps = plan(declaration, records, prune=prune, caller=caller_id)
        outcome = _Outcome(steps)
        if not as_json:
            _print_steps(steps)
        if steps and not dry_run:
            deletions = sum(step.action is Action.DELETE for step in steps)
            if deletions:
                confirm(f"Apply these changes, and delete {deletions} records?", yes=yes)
            outcome.carry_out(records)
        code = Exit.DIFFERENT if steps and dry_run else outcome.code
        outcome.show(dry_run=dry_run, as_json=as_json)
    raise typer.Exit(code)


class _Outcome:
    """The result of the steps: new client secrets, which cannot be read again, and refused changes."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._secrets: dict[str, str] = {}
        self._refused: list[str] = []
        self.code = Exit.DONE

    def carry_out(self, records: RemoteRecords) -> None:
        """Carry out the steps. Errors are kept for `show`, so that new secrets are printed in any case."""
        try:
            carry_out(self._steps, records, self._keep)
        except ConfigurationError as error:
            self._refused, self.code = str(error).split("\n"), Exit.FAILED
        except CallError as error:
            self._refused, self.code = [escape(str(error))], code_of(error)

    def _keep(self, client_id: str, secret: Secret) -> None:
        self._secrets[client_id] = secret.reveal()

    def show(self, *, dry_run: bool, as_json: bool) -> None:
        """Print the result: all of it as JSON, or the secrets, with refused changes on standard error."""
        if as_json:
            changes = [_plain(step) for step in self._steps]
            outcome = {
                "dry_run": dry_run,
                "changes": changes,
                "secrets": self._secrets,
                "refused": self._refused,
            }
            show(outcome, as_json=True)
            return
        for client_id, secret in self._secrets.items():
            show({"client_id": client_id, "client_secret": secret}, as_json=False)
        if self._secrets:
            say("Keep the secrets: they are not shown again.")
        for problem in self._refused:
            say(f"identity: {problem}")


def _read(file: Path) -> Declaration:
    # Imported late: `identity serve` also loads this module, and its memory use is kept low.
    from identity_service.principals.file import read_principals

    if str(file) == "-":
        return read_principals(sys.stdin.buffer.read(), "standard input", StrictKeyChecker())
    try:
        content = file.read_bytes()
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}")
    return read_principals(content, str(file), StrictKeyChecker())


def _print_steps(steps: Sequence[Step]) -> None:
    """Print the steps: `+` creates a record, `~` changes it (with the fields), `-` deletes it."""
    if not steps:
        put("nothing to do")
    for step in steps:
        secret = " (gets a secret)" if step.secret else ""
        put_styled((f"{_MARKS[step.action]} {step.kind} {step.name}{secret}", _STYLES[step.action]))
        for difference in step.differences:
            before = f"{json.dumps(difference.before)} → " if step.action is Action.CHANGE else ""
            put(f"    {difference.field}: {before}{json.dumps(difference.after)}")


def _plain(step: Step) -> dict[str, object]:
    return {
        "action": step.action,
        "kind": step.kind,
        "name": step.name,
        "fields": {d.field: {"before": d.before, "after": d.after} for d in step.differences},
        "gets_secret": step.secret,
    }
