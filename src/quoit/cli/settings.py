"""`quoit settings`: settings of the whole cluster, in force on all nodes at once."""

import json as json_module
from typing import Annotated, Any

import typer

from quoit.cli.cluster_client import DEFAULT, Admin, AsJson, ask_cluster
from quoit.cli.nearest import did_you_mean
from quoit.cli.shared import NOT_FOUND, fail, new_app, print_json, run_app

__all__ = ["main"]

app = new_app()


@app.command()
def settings(
    name: Annotated[str, typer.Argument(help="Only this one.")] = "",
    value: Annotated[str, typer.Argument(help="Give it this value.")] = "",
    admin: Admin = DEFAULT,
    json: AsJson = False,
) -> None:
    """Show the cluster's settings, or change one. Example: quoit settings dead_after_s 120"""
    found: dict[str, Any] = ask_cluster(admin, "/v1/settings", as_json=json)
    if name and name not in found:
        near = did_you_mean(name, found)
        fail(NOT_FOUND, "NO_SUCH_SETTING", f"there is no setting {name!r}.{near}",
             "quoit settings", as_json=json)  # fmt: skip
    if value:
        found = ask_cluster(admin, "/v1/settings", {name: _value(value)}, as_json=json)
    shown = {name: found[name]} if name else found
    if json:
        print_json("Settings", shown)
        return
    width = max(map(len, shown))
    for key, one in shown.items():
        print(f"{key:<{width}}  {str(one).lower() if isinstance(one, bool) else one}")


def _value(text: str) -> Any:
    """A number, true or false; on and off mean the latter."""
    if text in ("on", "off"):
        return text == "on"
    try:
        return json_module.loads(text)
    except ValueError:
        return text


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "settings")
