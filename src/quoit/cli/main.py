"""The `quoit` command: finds the subcommand's module and only then imports it, because a store that
takes a second to print its version feels broken. Each module builds its own typer application."""

import sys
from importlib import import_module

__all__ = ["COMMANDS", "run"]

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("quoit.cli.demo", "watch a cluster lose a node and no write"),
    "serve": ("quoit.cli.serve", "run a node"),
    "local": ("quoit.cli.local", "a cluster on this machine: start, status, kill, restart, stop"),
    "status": ("quoit.cli.status", "one sentence of truth, then the details"),
    "kv": ("quoit.cli.kv", "get, put, del and scan keys"),
    "bench": ("quoit.cli.bench", "load a running cluster and print what it does"),
    "sim": ("quoit.cli.sim", "run the simulator: seeds, scenarios, mutants"),
    "completion": ("quoit.cli.completion", "completion script for bash, zsh or fish"),
    "version": ("", "print the version"),
}


def _help() -> str:
    width = max(len(name) for name in COMMANDS)
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        "quoit: a store whose acknowledged writes are never lost.\n\n"
        "  quoit demo                             three nodes, one of them killed, nothing lost\n"
        "  quoit local start --nodes 3 --dir q    the same, to play with\n"
        "  quoit serve                            one node on redis://127.0.0.1:7379\n\n"
        f"Commands:\n{rows}\n\n`quoit COMMAND --help` tells more."
    )


def run() -> None:
    """Entry point. Exit codes: see docs/reference/cli.md."""
    sys.exit(dispatch(sys.argv[1:]))


def dispatch(argv: list[str]) -> int:
    """Run one command line; its exit code."""
    as_json = "--json" in argv
    words = [word for word in argv if word != "--json"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name = words[0]
    if name in ("--version", "-V", "version"):
        from quoit import __version__

        print(f'{{"version": "{__version__}"}}' if as_json else f"quoit {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"quoit: there is no command {name!r}.{_did_you_mean(name)}", file=sys.stderr)
        print("Run `quoit --help` for the list.", file=sys.stderr)
        return 2
    rest = argv[argv.index(name) + 1 :]
    if as_json and "--json" not in rest:
        rest.append("--json")
    try:
        code: int = import_module(COMMANDS[name][0]).main(rest)
    except KeyboardInterrupt:
        return 130
    return code


def _did_you_mean(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean `quoit {close[0]}`?" if close else ""
