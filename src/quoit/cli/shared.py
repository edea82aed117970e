"""What several commands need: running a typer application, errors with exit codes."""

import json
import sys
from typing import Any, NoReturn

import typer

from quoit.cli.admin_client import fetch_status

__all__ = [
    "AUTH", "CONFLICT", "CONNECT", "FAILED", "NOT_FOUND", "OK", "UNAVAILABLE", "UNHEALTHY", "USAGE",
    "fail", "fetch_status", "new_app", "print_json", "run_app",
]  # fmt: skip

# Published in docs/reference/cli.md; never change what a number means.
OK = 0
FAILED = 1
USAGE = 2
CONNECT = 3
NOT_FOUND = 4
CONFLICT = 5
UNHEALTHY = 6
AUTH = 7
UNAVAILABLE = 8
INTERRUPTED = 130

API_VERSION = "quoit/v1"
_RETRYABLE = (CONNECT, UNAVAILABLE)

# Why by their place: typer brings its own copy of click since 0.29, older ones use the real one, and
# these two classes are public in neither. BadParameter < UsageError < ClickException in both.
_UsageError: Any = typer.BadParameter.__mro__[1]
_CommandError: Any = typer.BadParameter.__mro__[2]


def new_app(text: str = "", *, group: bool = False) -> typer.Typer:
    """A typer application that prints plain errors; a `group` of commands shows its help (`text`)
    when none is given. A single command shows its own docstring."""
    return typer.Typer(
        help=text, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
        no_args_is_help=group,
    )  # fmt: skip


def run_app(app: typer.Typer, argv: list[str], name: str) -> int:
    """Run `app` on `argv`; its exit code."""
    command = typer.main.get_command(app)
    try:
        result = command.main(argv, prog_name=f"quoit {name}", standalone_mode=False)
    except _UsageError as error:
        _show_usage_error(error, "--json" in argv)
        return USAGE
    except _CommandError as error:
        error.show()
        return FAILED
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return result if isinstance(result, int) else OK


def _show_usage_error(error: Any, as_json: bool) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":
        # `quoit kv` alone: the message is the help.
        print(error.format_message(), file=sys.stderr)
        return
    path = error.ctx.command_path if error.ctx else "quoit"
    _print_error(USAGE, "USAGE", error.format_message(), f"{path} --help", as_json)


def fail(code: int, kind: str, message: str, hint: str = "", *, as_json: bool = False) -> NoReturn:
    """Say what happened and what to do, on stderr, and leave with `code`."""
    _print_error(code, kind, message, hint, as_json)
    raise typer.Exit(code)


def _print_error(code: int, kind: str, message: str, hint: str, as_json: bool) -> None:
    if as_json:
        error = {"code": kind, "message": message, "hint": hint, "retryable": code in _RETRYABLE}
        print(json.dumps({"error": error}), file=sys.stderr)
        return
    print(f"quoit: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


def print_json(kind: str, data: Any) -> None:
    """Machine-readable output with its version."""
    print(json.dumps({"apiVersion": API_VERSION, "kind": kind, "data": data}))
