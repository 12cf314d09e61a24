"""`identity serve --dev`, which `make run` calls: a complete service on one machine, for trials only.

Its files are in `var/`, each with mode 0600: the master key, the embedded store, and the secrets of the
demo client, the demo user and the administrator.
"""

import json
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import Final

from identity_service import bootstrap
from identity_service.cli.demo import DEMO_FILE, DemoSecrets, read_demo_secrets
from identity_service.cli.output import say
from identity_service.cli.private_files import write_private
from identity_service.composition import opening
from identity_service.config.sources import LoadedSettings
from identity_service.domain.errors import AlreadyExistsError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret
from identity_service.services.admin.administration import NewUser
from identity_service.settings import Settings

_FOLDER: Final = Path("var")
_MASTER_KEY: Final = _FOLDER / "master.key"
_AUDIENCE: Final = "demo-api"
_SCOPES: Final = ("read", "write")


def flags(loaded: LoadedSettings) -> dict[str, object]:
    """Return the settings that `--dev` adds to those that the operator has set.

    They are: console logs on a terminal, gRPC reflection, and a master key in `var/`, created if missing.
    """
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    settings = loaded.settings
    added: dict[str, object] = {}
    if loaded.sources["log_format"] == "default" and sys.stderr.isatty():
        added["log_format"] = "console"
    if loaded.sources["reflection"] == "default":
        added["reflection"] = True
    if settings.master_key is None and settings.master_key_file is None:
        if not _MASTER_KEY.exists():
            write_private(_MASTER_KEY, secrets.token_urlsafe(32))
        added["master_key_file"] = _MASTER_KEY
    return added


def prepare(settings: Settings) -> tuple[Settings, DemoSecrets | None]:
    """Initialise an empty store with a demo client and user.

    Lowers `durability` if this Redis cannot provide it. Returns the settings to serve with, and the demo
    secrets, or None if those of the store are not known.
    """
    findings = opening.check_store(settings)
    if settings.durability != "unsynced" and any(f.severity == "refuse" for f in findings):
        lowered = settings.model_copy(update={"durability": "unsynced"})
        if not any(f.severity == "refuse" for f in opening.check_store(lowered)):
            say("store: this Redis may lose acknowledged revocations when it crashes; going on at durability")
            say("       `unsynced`, for trying out only. `identity serve` without --dev would refuse.")
            settings = lowered
    with bootstrap.open_store_admin(settings) as store_admin:
        try:
            admin = store_admin.initialise()
        except AlreadyExistsError:
            return settings, _known_secrets(settings)
        _, secret = store_admin.administrator.clients.create(
            Client(
                client_id=PrincipalId("demo"),
                display_name="Demo",
                audiences=frozenset({_AUDIENCE}),
                scopes=frozenset(_SCOPES),
            )
        )
        password = secrets.token_urlsafe(12)
        store_admin.administrator.users.create(
            NewUser(username="ana", password=Secret(password), audiences=(_AUDIENCE,), scopes=_SCOPES)
        )
    demo = {
        "store": settings.masked()["store"],
        "admin_id": admin.client_id,
        "admin_secret": admin.client_secret.reveal(),
        "client_id": "demo",
        "client_secret": secret.reveal() if secret else "",
        "username": "ana",
        "password": password,
    }
    write_private(DEMO_FILE, json.dumps(demo, indent=2))
    return settings, demo


def print_calls(target: str, demo: DemoSecrets | None) -> None:
    """Print, on standard error, example calls to paste into another terminal."""
    if demo is None:
        say(f"The store was initialised before, and {DEMO_FILE} holds no secrets of it.")
        say("As an administrator, create some: identity client create …, identity user create …")
        return
    bin_ = Path(sys.executable).parent
    folder = os.path.relpath(bin_) if bin_.is_relative_to(Path.cwd()) else str(bin_)
    password, secret = shlex.quote(demo["password"]), shlex.quote(demo["client_secret"])
    target_flag = "" if target == "127.0.0.1:50051" else f" --target {target}"
    say(
        f"""
Try it in another terminal:

  A service, by client secret:
    IDENTITY_CLIENT_SECRET={secret} \\
      {folder}/identity token issue --client-id {demo["client_id"]}{target_flag}

  A person, by password, then verify what came back:
    TOKEN=$(IDENTITY_PASSWORD={password} \\
      {folder}/identity token issue --username {demo["username"]} --print access_token{target_flag})
    {folder}/identity token verify "$TOKEN" --audience {_AUDIENCE}{target_flag}

  The administrator, from this folder without a credential: clients, users, sessions, issuers, audit:
    {folder}/identity client list{target_flag}

  The whole round with the generated client: issue, verify, refresh, revoke, refused:
    IDENTITY_PASSWORD={password} IDENTITY_CLIENT_SECRET={secret} \\
      {folder}/python examples/quickstart.py --target {target} \\
      --username {demo["username"]} --client-id {demo["client_id"]} --audience {_AUDIENCE}

The secrets of these and of the administrator are in {DEMO_FILE}. Ctrl-C stops the service."""
    )


def _known_secrets(settings: Settings) -> DemoSecrets | None:
    demo = read_demo_secrets()
    return demo if demo and demo.get("store") == settings.masked()["store"] else None
