"""The settings of the workers of one machine, from the machine's.

Worker k (1 to N) has the number `node_id` + k - 1, the directory DATA_DIR/worker-k, the machine's zone, and
ports 10 * (k - 1) above the machine's. Where a list of peers names the workers, it says their ports.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from socket import gethostname
from typing import Any

import msgspec

from quoit.base.errors import BadRequest, Corruption
from quoit.cli.config import ServeConfig, node_options, parse_peer, peer_entry, settled
from quoit.runtime.disk import RealDisk
from quoit.runtime.options import PeerAddress

__all__ = ["STRIDE", "Worker", "as_words", "check_directory", "remember_workers", "workers_of"]

STRIDE = 10
"""Between the ports of one worker and of the next."""
_PORTS = ("resp_port", "admin_port", "peer_port")
_NAME = "workers.json"


class Worker(msgspec.Struct, kw_only=True):
    """One process of the machine."""

    config: ServeConfig
    words: list[str]
    """What `quoit serve` is told so that it has these settings."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.config.name or Path(self.config.data_dir).name


def workers_of(flags: Mapping[str, Any], values: Mapping[str, Any]) -> list[Worker]:
    """The machine's workers. flags: what the command line says; values: what all sources say together
    (config.merged). BadRequest when they cannot run side by side."""
    base = settled(dict(values))
    if not base.node_id:
        stored = _stored(Path(base.data_dir))
        first = stored.node_id if stored is not None else int(not base.join)
        base = msgspec.structs.replace(base, node_id=first)
    listed = {peer.id: peer for peer in map(parse_peer, base.peers)}
    # 0: each asks the cluster for its number, once.
    ours = [base.node_id + place if base.node_id else 0 for place in range(base.workers)]
    machine = f"n{base.node_id}" if base.node_id else f"{gethostname()}-{base.peer_port}"
    zone = base.zone or base.name or machine
    known = check_directory(base)
    if listed:
        _check_listed(listed, ours, zone, partly=bool(base.join) or known)
    configs = []
    for place, number in enumerate(ours):
        own = {
            **values, "node_id": number, "workers": 1, "zone": zone,
            "name": f"{base.name}-{place + 1}" if base.name else f"n{number}" if number else "",
            "data_dir": str(Path(base.data_dir) / f"worker-{place + 1}"),
            "ready_file": str(Path(base.data_dir) / f"worker-{place + 1}.ready"),
        }  # fmt: skip
        for port in _PORTS:
            if port in values or number not in listed:
                own[port] = getattr(base, port) + STRIDE * place
        configs.append(settled(own))
    _check_ports(configs)
    peers: list[str] = []
    if not listed and (known or not base.join):
        peers = [peer_entry(_address(config)) for config in configs]
        # One machine: a second copy on it would survive nothing that the first does not.
        copies = base.replication_factor if "replication_factor" in values else 1
        configs = [
            msgspec.structs.replace(one, peers=peers, replication_factor=copies) for one in configs
        ]
    if not base.join:
        for config in configs:
            if peers or config.node_id in listed:
                node_options(config)
    return [Worker(config=one, words=_words(flags, one, bool(peers))) for one in configs]


def _check_listed(
    listed: Mapping[int, PeerAddress], ours: Iterable[int], zone: str, *, partly: bool
) -> None:
    here = [number for number in ours if number in listed]
    absent = [number for number in ours if number not in listed]
    if absent and not partly:
        raise BadRequest(
            f"the workers are nodes {list(ours)}, and the peers do not list {absent}: list every "
            "worker of every machine"
        )
    if any(listed[number].zone != zone for number in here):
        entries = [peer_entry(msgspec.structs.replace(listed[one], zone=zone)) for one in here]
        raise BadRequest(
            "the list of peers must name one zone for all workers of a machine, or copies of a shard "
            "could share it; write on every node, as in\n  " + "\n  ".join(entries)
        )


def _check_ports(configs: list[ServeConfig]) -> None:
    taken: dict[int, str] = {}
    for config in configs:
        for name in _PORTS:
            port = getattr(config, name)
            if port in taken:
                raise BadRequest(
                    f"{name} {port} of {config.name} is {taken[port]}; worker k has the ports of the "
                    f"first and {STRIDE} * (k - 1): choose others, or list the workers as peers"
                )
            taken[port] = f"the {name} of {config.name}"


def _address(config: ServeConfig) -> PeerAddress:
    return PeerAddress(
        config.node_id, config.name, config.host,
        config.peer_port, config.resp_port, config.admin_port, config.zone,
    )  # fmt: skip


def _words(flags: Mapping[str, Any], config: ServeConfig, alone: bool) -> list[str]:
    own = ["node_id", "name", "zone", "data_dir", "ready_file", "workers", *_PORTS]
    if alone:
        own += ["peers", "replication_factor"]
    return as_words({**flags, **{key: getattr(config, key) for key in own}})


def as_words(flags: Mapping[str, Any]) -> list[str]:
    """Flags as they stand on a command line."""
    words: list[str] = []
    for key, value in flags.items():
        flag = f"--{key.replace('_', '-')}"
        if value is True or value is False:
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            for one in value:
                words += [flag, str(one)]
        else:
            words += [flag, str(value)]
    return words


# The machine's directory


class _Machine(msgspec.Struct, forbid_unknown_fields=True):
    """workers.json: whose data lie below."""

    node_id: int
    workers: int


def check_directory(config: ServeConfig) -> bool:
    """True if workers have begun in DATA_DIR. BadRequest when it belongs to others than `config` says:
    nodes that do not start would take their data with them, and new ones would think to be first."""
    place = Path(config.data_dir)
    if config.workers > 1 and (place / "node.json").exists():
        raise BadRequest(
            f"{place} holds the data of one node without workers: start it without --workers, or "
            "give the workers another --data-dir"
        )
    found = _stored(place)
    begun = any((place / name / "node.json").exists() for name in _directories(found))
    if found is None or not begun:
        return False
    told = _Machine(config.node_id, config.workers)
    if found != told:
        if found.node_id == told.node_id and found.workers < told.workers and config.join:
            return True
        raise BadRequest(
            f"{place} holds the data of {found.workers} workers from node {found.node_id} up: start "
            f"it with --node-id {found.node_id} --workers {found.workers}; more workers come with "
            "--join, the address being another machine's"
        )
    return True


def _directories(machine: _Machine | None) -> list[str]:
    count = machine.workers if machine is not None else 0
    return [f"worker-{number}" for number in range(1, count + 1)]


def _stored(place: Path) -> _Machine | None:
    try:
        return msgspec.json.decode((place / _NAME).read_bytes(), type=_Machine)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        raise Corruption(f"{place / _NAME} cannot be read: {error}") from None
    except OSError as error:
        raise BadRequest(f"{place / _NAME} cannot be read: {error}") from None


def remember_workers(config: ServeConfig) -> None:
    """Write down whose directory DATA_DIR is, before the first worker begins. DiskFault."""
    machine = _Machine(config.node_id, config.workers)
    if _stored(Path(config.data_dir)) == machine:
        return
    disk = RealDisk(config.data_dir)
    file = disk.open(_NAME + ".new", create=True)
    file.truncate(0)
    file.pwrite(0, msgspec.json.encode(machine) + b"\n")
    file.sync()
    file.close()
    disk.rename(_NAME + ".new", _NAME)
    disk.sync_directory()
