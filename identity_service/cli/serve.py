"""`identity init` and `identity serve`: initialise a store; run the service until it is told to stop.

With `--workers`, and with the engine `envoy`, this process only supervises those that serve. So the parts of
the service are imported within functions, where they are used.
"""

import contextlib
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Final

import typer

from identity_service.cli.demo import TRIAL_DEFAULTS
from identity_service.cli.local_settings import ConfigOption, StoreOption, load, settings_for_store_admin
from identity_service.cli.output import Exit, JsonFlag, fail, say, show
from identity_service.cli.store_check import check_store
from identity_service.composition import checks, listeners
from identity_service.domain.errors import ConfigurationError
from identity_service.process import cores, last_resort, thread_limit
from identity_service.process.addresses import port_of, with_port
from identity_service.process.signals import SignalThread
from identity_service.serving import server_process
from identity_service.serving.workers import Workers
from identity_service.settings import Settings
from identity_service.telemetry import logs

_PLACES: Final = ("listen", "mtls_listen", "http_listen", "http_mtls_listen")
_THREADS: Final = {"grpcio": 28, "envoy": 32}
"""For each engine, the number of threads that a serving process has, including those of gRPC or Envoy, and a
few to spare."""


def init(config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Initialise an empty store: create keys and the first administrator, whose secret is printed once."""
    from identity_service.composition.store_admin import open_store_admin

    settings = settings_for_store_admin(config, store)
    with open_store_admin(settings) as store_admin:
        made = store_admin.initialise()
    show({"client_id": made.client_id, "client_secret": made.client_secret.reveal()}, as_json=as_json)
    say("Keep the secret: it is not shown again. Keep the master key: only it opens the store's keys.")


def serve(
    config: ConfigOption = None,
    store: StoreOption = None,
    listen: Annotated[
        str | None, typer.Option(help="host:port to listen on; port 0 picks a free port.")
    ] = None,
    http_listen: Annotated[
        str | None, typer.Option(help="host:port for HTTP: OAuth 2.0, the key set, probes.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes; SIGHUP replaces them one by one.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="gRPC engine: grpcio, or envoy (faster).")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow other addresses than loopback without TLS.")
    ] = False,
    dev_mode: Annotated[
        bool,
        typer.Option(
            "--dev", help="Initialise an empty store with a demo client and user, and print example calls."
        ),
    ] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the calls in progress and exit 0."""
    flags: dict[str, object] = {"store": store, "listen": listen, "workers": workers}
    flags |= {"engine": engine, "insecure": insecure or None, "http_listen": http_listen}
    if dev_mode:
        from identity_service.cli import dev

        flags |= dev.flags(load(config, TRIAL_DEFAULTS, **flags))

    def read() -> Settings:
        settings = load(config, **flags).settings
        # Each worker would refuse as well. Checked here, it is said once, and before anything is created.
        checks.check_issuer(settings, dev=dev_mode)
        checks.check_tracing(settings)
        return settings

    settings = read()
    thread_limit.require(_THREADS[settings.engine] * max(1, settings.workers))
    demo = None
    if dev_mode:
        settings, demo = dev.prepare(settings)
    logs.configure(settings.log_level, settings.log_format)
    check_store(settings)
    if settings.tls_certificate is not None:
        from identity_service.cli.tls_check import warn_of_dates

        warn_of_dates(settings)

    def announce(places: Mapping[str, str]) -> None:
        http_url = _announce(settings, places)
        if dev_mode:
            dev.print_calls(places["listen"], http_url, settings, demo)

    if settings.workers:
        reload = (lambda: settings) if dev_mode else read
        _supervise(settings, reload, announce, dev=dev_mode)
    elif not server_process.serve(settings, announce, dev=dev_mode):
        fail(server_process.CUT_OFF, Exit.FAILED)


def _announce(settings: Settings, places: Mapping[str, str]) -> str:
    """Print the address of each listener; return the URL of `http_listen`, or an empty text."""
    tls, scheme = ("", "http") if settings.tls_certificate is None else (" with TLS", "https")
    by = f" by {settings.workers} workers" if settings.workers else ""
    store = checks.store_name(settings)
    say(f"identity-service: serving on {places['listen']}{tls}{by}, store {store}")
    if place := places.get("mtls_listen"):
        say(f"identity-service: for clients with a certificate on {place}")
    http_url = f"{scheme}://{places['http_listen']}" if "http_listen" in places else ""
    if http_url:
        say(f"identity-service: HTTP on {http_url}")
    if place := places.get("http_mtls_listen"):
        say(f"identity-service: HTTP for clients with a certificate on https://{place}")
    if (place := places.get("metrics_listen")) and port_of(place):  # 0 = a free port that Envoy has chosen
        say(f"identity-service: metrics on http://{place}/metrics")
    return http_url


def _supervise(
    settings: Settings, reload: Callable[[], Settings], announce: server_process.Announce, *, dev: bool
) -> None:
    """Serve with workers until told to stop; on SIGHUP, reload the settings and replace the workers."""
    with contextlib.ExitStack() as stack:
        plan = listeners.reserve_addresses(settings, stack)
        # This process answers `/metrics` for all workers.
        plan = plan.model_copy(update={"metrics_listen": ""})
        fixed = {name: getattr(plan, name) for name in (*_PLACES, "metrics_listen")}
        places, follow = listeners.places(plan), None
        if place := settings.metrics_listen:
            from identity_service.serving.worker_metrics import WorkerMetrics

            metrics = WorkerMetrics()
            places["metrics_listen"] = with_port(place, metrics.serve(place).port)
            follow = metrics.follow
        workers = Workers(
            partial(server_process.work, dev=dev),
            logs.StructuredEventLog(),
            count=settings.workers,
            grace=lambda plan: plan.drain_grace,
            cores=cores.of_workers(settings.workers) if settings.pin_workers else (),
            follow=follow,
        )

        def renewed() -> Settings:
            found = reload()
            for name in (*_PLACES, "metrics_listen", "workers", "pin_workers"):
                if getattr(found, name) != getattr(settings, name):
                    raise ConfigurationError(f"{name}: a change takes effect only after a restart")
            check_store(found)
            return found.model_copy(update=fixed)

        resort = last_resort.LastResort()
        resort.before_end(workers.kill)

        def stop() -> None:
            grace = max(settings.drain_grace.total_seconds(), workers.longest_grace)
            resort.arm(grace + last_resort.SUPERVISING)
            workers.stop()

        stops = dict.fromkeys((signal.SIGTERM, signal.SIGINT), stop)
        SignalThread({**stops, signal.SIGHUP: lambda: workers.renew(renewed)})
        code = workers.run(plan, lambda: announce(places))
    if code:
        raise typer.Exit(code)
