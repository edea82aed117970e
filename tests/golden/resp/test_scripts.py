"""Protocol transcripts. `> words` sends a command, `>> bytes` sends bytes as they are, what follows
is what the client gets, one line per reply line. `!closed` and `!open` state the connection.

After a change run `QUOIT_REGENERATE=1 pytest tests/golden/resp`, read the diff, and commit it only
if you understand it.
"""

import os
from pathlib import Path

import pytest

from quoit.wire.requests import split_inline
from tests.unit.gateways.harness import Client, Place, encode

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("*.txt"))


def _raw(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def _shown(data: bytes) -> list[str]:
    lines = data.split(b"\r\n")
    tail = lines.pop()
    shown = [line.decode("latin-1").encode("unicode_escape").decode() for line in lines]
    if tail:
        shown.append(tail.decode("latin-1").encode("unicode_escape").decode() + " (no line end)")
    return [f"  {line}" for line in shown]


def _play(script: str) -> str:
    """The script with what really came back."""
    out: list[str] = []
    place = Place()
    clients: dict[str, Client] = {}
    current = clients["1"] = place.client()
    for line in script.splitlines():
        if line.startswith("  "):
            continue
        out.append(line)
        if line.startswith("!settings "):
            name, value = line.split()[1].split("=")
            typed: object = int(value) if value.isdigit() else value.encode()
            place = Place(**{name: typed})
            clients = {"1": place.client()}
            current = clients["1"]
        elif line.startswith("!client "):
            name = line.split()[1]
            current = clients.setdefault(name, clients.get(name) or place.client())
        elif line.startswith(">> "):
            out += _shown(current.raw(_raw(line[3:])))
        elif line.startswith("> "):
            words = split_inline(line[2:].encode())
            assert words is not None
            out += _shown(current.raw(encode(*words)))
        elif line in ("!closed", "!open"):
            out[-1] = "!closed" if current.transport.closed else "!open"
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    script = path.read_text()
    played = _play(script)
    if os.environ.get("QUOIT_REGENERATE"):
        path.write_text(played)
    assert played == script
