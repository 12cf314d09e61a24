"""`identity config`: prints the settings with their sources, and checks them."""

import typer

from identity_service.cli.local_settings import ConfigOption, StoreOption, load
from identity_service.cli.output import JsonFlag, say, show, show_table
from identity_service.composition import checks
from identity_service.composition.files import check_all_files

app = typer.Typer(help="Show and check the settings.", no_args_is_help=True)


@app.command("show")
def show_settings(config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Print each setting with its value, the source of the value, and its meaning. Secrets are masked."""
    loaded = load(config, store=store)
    rows = [
        {
            "setting": name,
            "value": value,
            "from": loaded.sources[name],
            "meaning": type(loaded.settings).model_fields[name].description or "",
        }
        for name, value in loaded.settings.masked().items()
    ]
    show_table(rows, as_json=as_json, empty="no settings")


@app.command("check")
def check(config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Check the settings and the files that they name: exit 0 if valid, otherwise print each problem."""
    settings = load(config, store=store).settings
    checks.check_issuer(settings)
    checks.check_tracing(settings)
    check_all_files(settings)
    if as_json:
        show({"valid": True}, as_json=True)
    else:
        say("The settings are valid.")
        if settings.master_key is None and settings.master_key_file is None:
            say("No master key is set here; `identity serve` needs one (IDENTITY_MASTER_KEY_FILE).")
