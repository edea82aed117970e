"""The `quoit` command: finds the subcommand's module and only then imports it, because a store that
takes a second to print its version feels broken. Each module builds its own typer application."""

import sys
from importlib import import_module
from io import TextIOWrapper

from quoit.cli.nearest import did_you_mean

__all__ = ["COMMANDS", "dispatch", "run"]

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("quoit.cli.demo", "watch a cluster lose a node and no write"),
    "serve": ("quoit.cli.serve", "run a node"),
    "local": ("quoit.cli.local", "a cluster on this machine: start, status, kill, restart, stop"),
    "status": ("quoit.cli.status", "one sentence of truth, then the details"),
    "top": ("quoit.cli.top", "what each node does, live"),
    "node": ("quoit.cli.node", "who is in the cluster; drain, decommission, remove"),
    "ring": ("quoit.cli.ring", "where replicas shall be; what moving them costs"),
    "job": ("quoit.cli.job", "what the cluster does by itself, and how far it is"),
    "settings": ("quoit.cli.settings", "settings of the whole cluster"),
    "shard": ("quoit.cli.shard", "who keeps which shard; move, add and remove replicas"),
    "kv": ("quoit.cli.kv", "get, put, del and scan keys"),
    "bench": ("quoit.cli.bench", "load a running cluster and print what it does"),
    "sim": ("quoit.cli.sim", "run the simulator: seeds, scenarios, mutants"),
    "completion": ("quoit.cli.completion", "completion script for bash, zsh or fish"),
    "version": ("", "print the version"),
}

INTERRUPTED = 130


def _help() -> str:
    width = max(len(name) for name in COMMANDS)
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        "quoit: a store whose acknowledged writes are never lost.\n\n"
        "  quoit demo                             three nodes, one of them killed, nothing lost\n"
        "  quoit local start --nodes 3 --dir q    the same, to play with\n"
        "  quoit serve                            one node on redis://127.0.0.1:7379\n\n"
        f"Commands:\n{rows}\n\n"
        "`quoit COMMAND --help` tells more; --json is for programs. Nothing is sent but to your nodes."
    )


def run() -> None:
    """Entry point. Exit codes: docs/reference/cli.md."""
    for stream in (sys.stdout, sys.stderr):
        # Why: a glyph that the locale cannot print must not end a command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(dispatch(sys.argv[1:]))


def _version(as_json: bool) -> int:
    from quoit import __version__
    from quoit.base.build import compiled

    if as_json:
        print(f'{{"version": "{__version__}", "compiled": {str(compiled()).lower()}}}')
    else:
        print(f"quoit {__version__}{' (compiled)' if compiled() else ''}")
    return 0


def dispatch(argv: list[str]) -> int:
    """Run one command line; its exit code."""
    as_json = argv[:1] == ["--json"]
    words = argv[1:] if as_json else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name, rest = words[0], words[1:]
    if name in ("--version", "-V", "version"):
        return _version(as_json or "--json" in rest)
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        print(f"quoit: there is no command {name!r}.{near}", file=sys.stderr)
        print("  quoit --help", file=sys.stderr)
        return 2
    if as_json and "--json" not in rest:
        # Before a `--`, behind which everything is an argument.
        rest.insert(rest.index("--") if "--" in rest else len(rest), "--json")
    try:
        code: int = import_module(COMMANDS[name][0]).main(rest)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wants. Nothing more may be written, not even at exit.
        sys.stdout = None
        return 0
    return code
