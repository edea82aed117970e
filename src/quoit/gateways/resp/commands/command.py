"""COMMAND: the table of commands, told to clients."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from quoit.data.table import COMMANDS, Spec
from quoit.gateways.resp.own import own, plain, unknown_subcommand
from quoit.node.router import keys_of
from quoit.wire import resp

if TYPE_CHECKING:
    from quoit.gateways.resp.connection import RespConnection

__all__: list[str] = []

_HELP = (
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Details of all commands.",
    "COUNT",
    "    How many commands there are.",
    "DOCS [<command-name> ...]",
    "    What the commands are for.",
    "GETKEYS <full-command>",
    "    The keys of a command.",
    "INFO [<command-name> ...]",
    "    Details of commands.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Names of commands.",
    "HELP",
    "    Prints this help.",
)
_CATEGORIES = {
    "string": "@string", "generic": "@keyspace", "connection": "@connection",
    "transactions": "@transaction", "server": "@admin", "cluster": "@slow",
}  # fmt: skip


def _categories(spec: Spec) -> list[str]:
    found = [_CATEGORIES.get(spec.group, f"@{spec.group}")]
    if spec.handler is not None:
        found.append("@write" if spec.write else "@read")
    speed = "@fast" if "fast" in spec.flags else "@slow"
    if speed not in found:
        found.append(speed)
    return found


def _flags(spec: Spec) -> list[str]:
    kind = ["write" if spec.write else "readonly"] if spec.handler is not None else []
    return kind + list(spec.flags)


def _key_specs(spec: Spec, proto: int) -> bytes:
    """Where the keys are, in the form that Redis 7 added: one range from a fixed position."""
    if not spec.first_key:
        return resp.array([])
    last = spec.last_key - spec.first_key if spec.last_key >= 0 else spec.last_key
    number = resp.integer
    begin = resp.mapping(
        [
            (resp.bulk(b"type"), resp.bulk(b"index")),
            (
                resp.bulk(b"spec"),
                resp.mapping([(resp.bulk(b"index"), number(spec.first_key))], proto),
            ),
        ],
        proto,
    )
    reach = [
        (resp.bulk(b"lastkey"), number(last)),
        (resp.bulk(b"keystep"), number(spec.key_step)),
        (resp.bulk(b"limit"), number(0)),
    ]
    find = resp.mapping(
        [
            (resp.bulk(b"type"), resp.bulk(b"range")),
            (resp.bulk(b"spec"), resp.mapping(reach, proto)),
        ],
        proto,
    )
    access = b"RW" if spec.write else b"RO"
    flags = resp.set_([resp.simple(access.decode())], proto)
    return resp.array(
        [
            resp.mapping(
                [
                    (resp.bulk(b"flags"), flags),
                    (resp.bulk(b"begin_search"), begin),
                    (resp.bulk(b"find_keys"), find),
                ],
                proto,
            )
        ]
    )


def _details(spec: Spec, proto: int) -> bytes:
    """The ten fields of COMMAND INFO."""
    return resp.array(
        [
            resp.bulk(spec.name.lower().encode()),
            resp.integer(spec.arity),
            resp.set_([resp.simple(flag) for flag in _flags(spec)], proto),
            resp.integer(spec.first_key),
            resp.integer(spec.last_key if spec.first_key else 0),
            resp.integer(spec.key_step if spec.first_key else 0),
            resp.set_([resp.simple(category) for category in _categories(spec)], proto),
            resp.array([]),
            _key_specs(spec, proto),
            resp.array([]),
        ]
    )


def _docs(spec: Spec, proto: int) -> bytes:
    facts = [
        (b"summary", resp.bulk(spec.summary.encode())),
        (b"since", resp.bulk(spec.since.encode())),
        (b"group", resp.bulk(spec.group.encode())),
        (b"complexity", resp.bulk(spec.complexity.encode())),
    ]
    if spec.subcommands:
        parts = []
        for name in spec.subcommands:
            about = [
                (resp.bulk(b"summary"), resp.bulk(f"{spec.name} {name}".encode())),
                (resp.bulk(b"since"), resp.bulk(spec.since.encode())),
                (resp.bulk(b"group"), resp.bulk(spec.group.encode())),
            ]
            full = f"{spec.name}|{name}".lower().encode()
            parts.append((resp.bulk(full), resp.mapping(about, proto)))
        facts.append((b"subcommands", resp.mapping(parts, proto)))
    return resp.mapping([(resp.bulk(key), value) for key, value in facts], proto)


def _find(name: bytes) -> Spec | None:
    return COMMANDS.get(name.upper())


@own(
    "COMMAND",
    -1,
    group="server",
    since="2.8.13",
    subcommands=("COUNT", "DOCS", "GETKEYS", "HELP", "INFO", "LIST"),
    summary="About the commands of this server.",
    complexity="O(N) in the number of commands",
)
def command_(connection: "RespConnection", args: list[bytes], ticket: int) -> bytes:
    """COMMAND [COUNT | DOCS | GETKEYS | INFO | LIST | HELP]."""
    proto = connection.session.proto
    if len(args) == 1:
        return resp.array([_details(spec, proto) for spec in COMMANDS.values()])
    name = args[1].upper()
    if name == b"COUNT" and len(args) == 2:
        return resp.integer(len(COMMANDS))
    if name == b"INFO":
        if len(args) == 2:
            return resp.array([_details(spec, proto) for spec in COMMANDS.values()])
        # Why: a missing command is a null array, as Redis has it, so that clients see its place.
        found = [_find(wanted) for wanted in args[2:]]
        return resp.array(
            [_details(spec, proto) if spec else resp.null_array(proto) for spec in found]
        )
    if name == b"DOCS":
        chosen = [_find(wanted) for wanted in args[2:]] if len(args) > 2 else COMMANDS.values()
        pairs = [
            (resp.bulk(spec.name.lower().encode()), _docs(spec, proto)) for spec in chosen if spec
        ]
        return resp.mapping(pairs, proto)
    if name == b"LIST":
        return _list(args)
    if name == b"GETKEYS" and len(args) > 2:
        return _get_keys(args[2:])
    if name == b"HELP" and len(args) == 2:
        return resp.simple_array(_HELP)
    return resp.error(unknown_subcommand(args))


def _list(args: list[bytes]) -> bytes:
    chosen = list(COMMANDS.values())
    if len(args) == 5 and args[2].upper() == b"FILTERBY":
        kind = args[3].upper()
        wanted = plain(args[4]).lower()
        if kind == b"PATTERN":
            chosen = [spec for spec in chosen if fnmatchcase(spec.name.lower(), wanted)]
        elif kind == b"ACLCAT":
            chosen = [spec for spec in chosen if f"@{wanted}" in _categories(spec)]
        elif kind == b"MODULE":
            chosen = []
        else:
            return b"-ERR syntax error\r\n"
    elif len(args) != 2:
        return b"-ERR syntax error\r\n"
    return resp.bulk_array([spec.name.lower().encode() for spec in chosen])


def _get_keys(args: list[bytes]) -> bytes:
    spec = _find(args[0])
    if spec is None:
        return b"-ERR Invalid command specified\r\n"
    if not spec.first_key:
        return b"-ERR The command has no key arguments\r\n"
    if len(args) != spec.arity if spec.arity > 0 else len(args) < -spec.arity:
        return b"-ERR Invalid number of arguments specified for command\r\n"
    return resp.bulk_array(keys_of(spec, args))
