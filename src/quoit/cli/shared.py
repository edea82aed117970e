"""What several commands need: running a typer application, errors with exit codes, the admin API."""

import http.client
import json
import sys
from typing import Any, NoReturn

import click
import typer

__all__ = [
    "CONNECT", "CONFLICT", "FAILED", "NOT_FOUND", "OK", "UNAVAILABLE", "UNHEALTHY", "USAGE",
    "fail", "fetch_status", "new_app", "print_json", "run_app",
]  # fmt: skip

OK, FAILED, USAGE, CONNECT, NOT_FOUND, CONFLICT, UNHEALTHY = 0, 1, 2, 3, 4, 5, 6
UNAVAILABLE = 8
API_VERSION = "quoit/v1"


def new_app(text: str) -> typer.Typer:
    """A typer application that prints plain errors."""
    return typer.Typer(
        help=text, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )


def run_app(app: typer.Typer, argv: list[str], name: str) -> int:
    """Run `app` on `argv`; its exit code."""
    command = typer.main.get_command(app)
    try:
        result = command.main(argv, prog_name=f"quoit {name}", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        return 130
    return result if isinstance(result, int) else OK


def fail(code: int, kind: str, message: str, hint: str = "", *, as_json: bool = False) -> NoReturn:
    """Say what happened and what to do, on stderr, and leave with `code`."""
    if as_json:
        error = {"code": kind, "message": message, "hint": hint, "retryable": code in (3, 8)}
        print(json.dumps({"error": error}), file=sys.stderr)
    else:
        print(f"quoit: {message}", file=sys.stderr)
        if hint:
            print(f"  {hint}", file=sys.stderr)
    raise typer.Exit(code)


def print_json(kind: str, data: Any) -> None:
    """Machine-readable output with its version."""
    print(json.dumps({"apiVersion": API_VERSION, "kind": kind, "data": data}))


def fetch_status(admin: str, timeout_s: float = 2.0) -> dict[str, Any]:
    """A node's NodeStatus from its admin port (`host:port`). OSError if it does not answer."""
    host, _, port = admin.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request("GET", "/v1/status")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise OSError(f"{admin} answered {response.status}")
        found: dict[str, Any] = json.loads(body)
        return found
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{admin} does not speak the admin API: {error}") from error
    finally:
        connection.close()
