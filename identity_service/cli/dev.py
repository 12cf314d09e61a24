"""`identity serve --dev`, which `make run` calls: a complete service on one machine, for trials only.

Its files are in `var/`, each with mode 0600: the master key, the embedded store, and the secrets of the
demo client, the demo user and the administrator.
"""

import json
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from identity_service.cli.demo import DEMO_FILE, MASTER_KEY_FILE, DemoSecrets, read_demo_secrets
from identity_service.cli.output import say
from identity_service.cli.private_files import write_private
from identity_service.composition import checks
from identity_service.composition.store_admin import open_store_admin
from identity_service.config.sources import LoadedSettings
from identity_service.domain.errors import AlreadyExistsError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret
from identity_service.process.addresses import reserved
from identity_service.services.admin.administration import NewUser
from identity_service.settings import Settings
from identity_service.telemetry import logs

_AUDIENCE: Final = "demo-api"
_SCOPES: Final = ("read", "write")
_HTTP_LISTEN: Final = "127.0.0.1:8080"
_FREE_PORT: Final = "127.0.0.1:0"
_CONNECTIONS: Final = 1000
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104  # not bound here
"""Host that stands for every address of the machine → the address at which the machine itself finds it."""
_QUICKSTART: Final = Path("examples/quickstart.py")
"""The example program in a checkout, which is the working directory of `make run`."""


def flags(loaded: LoadedSettings) -> dict[str, object]:
    """Return the settings that `--dev` adds to those that the operator has set.

    - the log format `console`, if standard error is a terminal
    - gRPC reflection
    - a master key in `var/`, which is created if it is missing
    - a `max_connections` that is low enough for the default limit of open files of every system
    - HTTP on 127.0.0.1:8080, or on a free port if `listen` is set, since several services may then run
    - the URL of the HTTP port as the issuer; tokens with the default issuer are still accepted

    Raises ConfigurationError if the address of HTTP is taken.
    """
    MASTER_KEY_FILE.parent.mkdir(mode=0o700, exist_ok=True)
    settings, sources = loaded.settings, loaded.sources
    usual: dict[str, object] = {
        "log_format": "console" if sys.stderr.isatty() else settings.log_format,
        "reflection": True,
        "max_connections": _CONNECTIONS,
        "http_listen": _HTTP_LISTEN if sources["listen"] == "default" else _FREE_PORT,
    }
    added = {name: value for name, value in usual.items() if sources[name] == "default"}
    http_listen = str(added.get("http_listen", settings.http_listen))
    if http_listen and sources["issuer"] == "default":
        added |= _named_by_port(settings, http_listen)
    if settings.master_key is None and settings.master_key_file is None:
        if not MASTER_KEY_FILE.exists():
            write_private(MASTER_KEY_FILE, secrets.token_urlsafe(32))
        added["master_key_file"] = MASTER_KEY_FILE
    return added


def _named_by_port(settings: Settings, http_listen: str) -> dict[str, object]:
    """Return the settings with which the issuer is the URL of the HTTP listener.

    Its port is chosen here if it is 0. The default of `issuer` is the name under which tokens, trusted
    issuers and clients of an earlier trial may still know the service.
    """
    with reserved(http_listen, "http_listen") as place:
        host, _, port = place.rpartition(":")
    scheme = "http" if settings.tls_certificate is None else "https"
    named: dict[str, object] = {
        "http_listen": place,
        "issuer": f"{scheme}://{_LOOPBACK.get(host, host.lower())}:{port}",
        "accepted_issuers": (*settings.accepted_issuers, settings.issuer),
    }
    shared = settings.engine == "envoy" and http_listen == settings.listen
    return {**named, "listen": place} if shared else named


def prepare(settings: Settings) -> tuple[Settings, DemoSecrets | None]:
    """Initialise an empty store with a demo client and user.

    Lowers `durability` if this Redis cannot provide it. Returns the settings to serve with, and the demo
    secrets, or None if those of the store are not known.
    """
    store = checks.store_name(settings)
    say(f"identity-service: starting for trials (--dev) with the store {store}")
    logs.configure("warning", settings.log_format)  # omits the audit events of the demo client and user
    findings = checks.check_store(settings)
    if settings.durability != "unsynced" and any(f.severity == "refuse" for f in findings):
        lowered = settings.model_copy(update={"durability": "unsynced"})
        if not any(f.severity == "refuse" for f in checks.check_store(lowered)):
            say(
                f"store {store}: this Redis may lose acknowledged revocations when it crashes. The service "
                "starts with durability `unsynced`, for trials only; without --dev it would not start"
            )
            settings = lowered
    with open_store_admin(settings) as store_admin:
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


def print_calls(target: str, http_url: str, settings: Settings, demo: DemoSecrets | None) -> None:
    """Print, on standard error, example calls to paste into another terminal.

    Args:
        target: host:port of the gRPC server.
        http_url: URL of the HTTP API; empty = it is not served.
        settings: the settings of the service.
        demo: the secrets of the demo principals; None = they are unknown.
    """
    if demo is None:
        say(
            f"The store was initialised before, and {DEMO_FILE} does not hold its secrets. Create some "
            "principals, as its administrator: `identity client create`, `identity user create`."
        )
        return
    say("\nTry it in another terminal, in this folder:")
    for title, command in _calls(target, http_url, settings, demo):
        say(f"\n  {title}:\n    {command}")
    if settings.callers_prove_themselves:
        say("\nOnly a caller with the scope identity.verify may verify tokens: see docs/tls.md.")
    say(f"\nThe secrets of these and of the administrator are in {DEMO_FILE}. Ctrl-C stops the service.")


def _calls(target: str, http_url: str, settings: Settings, demo: DemoSecrets) -> Iterator[tuple[str, str]]:
    """Yield a title and a shell command for each example."""
    bin_ = Path(sys.executable).parent
    folder = os.path.relpath(bin_) if bin_.is_relative_to(Path.cwd()) else str(bin_)
    identity, user, client = f"{folder}/identity", demo["username"], demo["client_id"]
    password = f"IDENTITY_PASSWORD={shlex.quote(demo['password'])}"
    secret = f"IDENTITY_CLIENT_SECRET={shlex.quote(demo['client_secret'])}"
    reach = ("" if target == "127.0.0.1:50051" else f" --target {target}") + _ca_flag("--ca", settings)
    yield (
        "Issue a token to a client, by its secret",
        f"{secret} \\\n      {identity} token issue --client-id {client}{reach}",
    )
    if http_url:
        yield (
            "Get a token over HTTP, as an OAuth library does",
            f"curl -s{_ca_flag('--cacert', settings)} {http_url}/oauth2/token \\\n"
            f"      -u {client}:{shlex.quote(demo['client_secret'])} -d grant_type=client_credentials",
        )
    sign_in = f"{identity} token issue --username {user} --print access_token{reach}"
    get_token = f"TOKEN=$({password} \\\n      {sign_in})"
    if settings.callers_prove_themselves:
        yield "Sign a user in by password", get_token
    else:
        verify = f'{identity} token verify "$TOKEN" --audience {_AUDIENCE}{reach}'
        yield "Sign a user in by password, and verify the access token", f"{get_token}\n    {verify}"
    yield (
        f"List the clients, as the administrator whose secret is in {DEMO_FILE}",
        f"{identity} client list{reach}",
    )
    if _QUICKSTART.is_file() and not settings.callers_prove_themselves:
        yield (
            "Issue, verify, refresh and revoke with the Python client",
            f"{password} {secret} \\\n"
            f"      {folder}/python {_QUICKSTART} --target {target} \\\n"
            f"      --username {user} --client-id {client} --audience {_AUDIENCE}",
        )


def _ca_flag(flag: str, settings: Settings) -> str:
    """Return the flag by which a program trusts the service: the CA file of `dev-certs`, or a placeholder."""
    if settings.tls_certificate is None:
        return ""
    found = settings.tls_certificate.with_name("ca.pem")
    return f" {flag} {shlex.quote(str(found)) if found.is_file() else 'CA_FILE'}"


def _known_secrets(settings: Settings) -> DemoSecrets | None:
    demo = read_demo_secrets()
    return demo if demo and demo.get("store") == settings.masked()["store"] else None
