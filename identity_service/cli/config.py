"""`identity config`: what the settings are, and where each comes from."""

import typer

from identity_service.cli.options import ConfigOption, StoreOption, load
from identity_service.cli.output import JsonFlag, failures, say, show, show_table

app = typer.Typer(help="Show and check the settings.", no_args_is_help=True)


@app.command("show")
def show_settings(config: ConfigOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> None:
    """Print each setting with where its value came from; secrets are masked."""
    with failures(as_json=as_json):
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
    """Exit 0 if the settings are usable, else say what is wrong with which."""
    with failures(as_json=as_json):
        load(config, store=store)
        if as_json:
            show({"valid": True}, as_json=True)
        else:
            say("The settings are valid.")
