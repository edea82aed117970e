"""Writes the pages of docs/reference that follow from the code: metrics, settings, the admin API.

python scripts/reference.py          write them
python scripts/reference.py --check  exit 1 if they are not up to date
"""

import ast
import inspect
import random
import sys
from pathlib import Path
from typing import Any

import msgspec

from quoit.cli.config import ServeConfig
from quoit.gateways.admin.metrics import StatusCollector
from quoit.gateways.admin.routes import Route, openapi
from quoit.gateways.admin.server import all_routes
from quoit.node.cluster.state import Settings
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.node import Node
from quoit.sim.clock import NodeClock, TrueTime
from quoit.sim.disk import SimDisk
from quoit.storage.log import Log
from quoit.storage.memory import MemoryEngine

__all__ = ["pages"]

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE = "Made by `make reference` from the code; do not edit.\n"


def _node() -> Node:
    """One of two nodes, so that there is a peer."""
    log, recovery = Log.open(SimDisk(random.Random(1)))
    config = NodeConfig(
        node_id=1, cluster_id="reference", nodes=(PeerInfo(1, "n1"), PeerInfo(2, "n2"))
    )
    clock = NodeClock(TrueTime(), 1, 1, 1_000_000)
    return Node(
        config, clock, random.Random(1), MemoryEngine(), log, recovery, lambda *_, **__: None
    )


def metrics() -> str:
    """Every metric of /metrics."""
    lines = [
        "# Metrics\n", NOTE, "\n`GET /metrics` on the admin port, in Prometheus' text format. "
        "Besides these there are the standard `process_*` metrics. What to watch: "
        "[monitor](../how-to/monitor.md).\n",
        "\n| name | type | labels | what |\n|---|---|---|---|\n",
    ]  # fmt: skip
    node = _node()
    for family in sorted(StatusCollector(node.status).collect(), key=lambda one: one.name):
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
        name = family.name + ("_total" if family.type == "counter" else "")
        shown = ", ".join(f"`{label}`" for label in labels) or "-"
        lines.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |\n")
    return "".join(lines)


def _docs(struct: type) -> dict[str, str]:
    """Field -> the text under it."""
    body = ast.parse(inspect.getsource(struct)).body[0]
    found: dict[str, str] = {}
    last = ""
    for one in getattr(body, "body", []):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            last = one.target.id
            found[last] = ""
        elif last and isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
            found[last] = " ".join(str(one.value.value).split())
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`" if value not in ("", []) else "empty"


def settings() -> str:
    """Settings of a node and of the cluster."""
    lines = [
        "# All settings\n", NOTE, "\n## Of a node\n\nA flag of `quoit serve`, a variable, or a key of the "
        "file given with `--config`, in this order of strength. More about them: [settings](config.md).\n",
        "\n| key | flag | variable | default | what |\n|---|---|---|---|---|\n",
    ]  # fmt: skip
    docs = _docs(ServeConfig)
    for field in msgspec.structs.fields(ServeConfig):
        name = field.name
        default = field.default if field.default is not msgspec.NODEFAULT else []
        lines.append(
            f"| `{name}` | `--{name.replace('_', '-')}` | `QUOIT_{name.upper()}` | {_shown(default)} | "
            f"{docs[name].replace('|', chr(92) + '|')} |\n"
        )
    lines.append(
        "\n## Of the cluster\n\n`quoit settings NAME VALUE`; in force on all nodes at once.\n"
        "\n| name | default | what |\n|---|---|---|\n"
    )
    docs = _docs(Settings)
    for field in msgspec.structs.fields(Settings):
        lines.append(f"| `{field.name}` | {_shown(field.default)} | {docs[field.name]} |\n")
    return "".join(lines)


class _Host:
    node = None
    options = None


def _routes() -> list[Route]:
    host: Any = _Host()
    return all_routes(host)


def api() -> str:
    """The admin API, from the same table that serves it."""
    lines = [
        "# Admin API\n", NOTE, "\nHTTP on the admin port (7400). JSON in and out; an error is "
        '`{"error": {"code", "message"}}`. Beyond loopback all but health asks for the password as a '
        "bearer token. `GET /v1/openapi.json` is this page for programs (OpenAPI 3.1).\n",
    ]  # fmt: skip
    routes = _routes()
    for route in routes:
        lines.append(
            f"\n## `{route.method} {route.path.replace(':[0-9]+', '')}`\n\n{route.does}.\n"
        )
        for name, text in route.query.items():
            lines.append(f"- `?{name}`: {text}\n")
        for what, shape in (("Body", route.body), ("Answer", route.answer)):
            if shape is not None:
                lines.append(f"- {what}: {_shape(shape)}\n")
        for status, when in route.errors.items():
            lines.append(f"- {status}: {when}\n")
    lines.append("\n## Shapes\n")
    for name, schema in sorted(openapi(routes, "")["components"]["schemas"].items()):
        if "properties" not in schema:
            continue
        text = " ".join(schema.get("description", "").split())
        lines.append(f"\n### {name}\n\n{text.replace('<', '&lt;')}\n\nFields: ")
        lines.append(", ".join(f"`{field}`" for field in schema["properties"]) + ".\n")
    return "".join(lines)


def _shape(shape: Any) -> str:
    if isinstance(shape, str):
        return shape
    name = getattr(shape, "__name__", "")
    if getattr(shape, "__args__", None):
        inner = [getattr(one, "__name__", "any") for one in shape.__args__]
        return f"{name} of {', '.join(inner)}"
    return name


def pages() -> dict[str, str]:
    """File in docs/reference -> its text."""
    return {"metrics.md": metrics(), "settings.md": settings(), "admin-api.md": api()}


def main() -> int:
    """Write or check."""
    old = []
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            old.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if old and "--check" in sys.argv:
        print(f"not up to date: {', '.join(old)}; run: make reference", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
