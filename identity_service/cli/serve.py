"""`identity init` and `identity serve`: prepare a store, run the service until it is told to stop."""

import gc
import signal
import threading
from typing import Annotated

import typer

from identity_service import bootstrap, logs, opening
from identity_service.cli import dev
from identity_service.cli.options import ConfigOption, StoreOption, load, settings_for_office
from identity_service.cli.output import Exit, JsonFlag, fail, failures, say, show
from identity_service.domain.errors import ConfigurationError
from identity_service.settings import Settings


def init(config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Initialise a virgin store: its keys, and the first administrator, whose secret is shown once."""
    with failures(as_json=as_json):
        settings = settings_for_office(config, store)
        with bootstrap.open_office(settings) as office:
            made = office.initialise()
        show(
            {"client_id": made.client_id, "client_secret": made.client_secret.reveal()},
            as_json=as_json,
        )
        say("Keep the secret: it is not shown again. The store's keys need the same master key from now on.")


def serve(
    config: ConfigOption = None,
    store: StoreOption = None,
    listen: Annotated[str | None, typer.Option(help="host:port; port 0 takes a free one.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without TLS.")] = False,
    dev_mode: Annotated[
        bool,
        typer.Option("--dev", help="Set up a virgin store with demo accounts in var/, and print a call."),
    ] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the calls in progress and exit 0."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with failures(as_json=False):
        flags: dict[str, object] = {"store": store, "listen": listen, "insecure": insecure or None}
        if dev_mode:
            flags |= dev.flags(load(config, **flags))
        settings = load(config, **flags).settings
        logs.configure(settings.log_level, settings.log_format)
        if dev_mode:
            settings, accounts = dev.prepare(settings)
        _check_store(settings)
        service = bootstrap.Service(settings)
        # What is there by now stays: a full collection need not look at all of it each time.
        gc.collect()
        gc.freeze()
        port = service.start()
        host = settings.listen.rpartition(":")[0]
        tls = " with TLS" if settings.tls_certificate is not None else ""
        say(f"identity-service: serving on {host}:{port}{tls}, store {settings.masked()['store']}")
        if dev_mode:
            dev.print_calls(f"{host}:{port}", accounts)
            if tls:
                say("TLS is on: commands need --ca and the file of the authority; see docs/tls.md.")
        stop.wait()
        say("identity-service: stopping")
        if not service.stop():
            fail("some calls had to be cut off when stopping; raise drain_grace", Exit.FAILED)


def _check_store(settings: Settings) -> None:
    """Refuse to serve from a store that cannot give what the settings promise."""
    refusals = []
    for finding in opening.check_store(settings):
        say(f"store: {finding.what}; {finding.fix}")
        if finding.severity == "refuse":
            refusals.append(finding.what)
    if refusals:
        raise ConfigurationError(f"the store cannot be used as it is set up: {'; '.join(refusals)}")
