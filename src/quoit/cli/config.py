"""Settings of `quoit serve`: flags win over QUOIT_* variables, those over a TOML file, that over the
defaults. An unknown key is an error, because a misspelt safety setting must not pass in silence.

Secrets may be given as files (`password_file`, `secret_file`, QUOIT_PASSWORD_FILE...), which neither
`ps` nor the environment of a child shows. Of one setting given twice by the same source the file wins.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from quoit.base.errors import BadRequest
from quoit.cli.nearest import did_you_mean
from quoit.gateways.admin.access import is_loopback
from quoit.placement.ring import WEIGHT_MAX
from quoit.quorum.members import MODES
from quoit.runtime.options import NodeOptions, PeerAddress

__all__ = [
    "WORKER", "ServeConfig", "load", "merged", "node_options", "parse_peer", "peer_entry", "settled",
]  # fmt: skip

WORKER = "QUOIT_WORKER"
"""Set for a process that `quoit serve --workers` started (cli/workers.py)."""
NOT_SETTINGS = ("QUOIT_ADMIN", "QUOIT_COLOR", "QUOIT_CONFIG", "QUOIT_URL", WORKER)
"""Variables that other commands read."""
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SECRET_CHARACTERS_MIN = 16


class ServeConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything `quoit serve` can be told. Times in milliseconds."""

    name: str = ""
    """Empty: n and the node's number."""
    node_id: int = 0
    """0: what the cluster allots to a node that joins; 1 for one that begins a cluster."""
    workers: int = 1
    """Processes, each a node with a number of its own from node_id up."""
    zone: str = ""
    """What fails together: no two replicas of a shard share a zone if there are enough. Empty: the node
    stands for itself, workers for their machine."""
    weight: float = 1.0
    """Share of the data in proportion to the other nodes'; the first placement takes all as equal."""
    data_dir: str = "quoit-data"
    """Everything that the node must not lose."""
    cluster_id: str = "local"
    """Nodes of other clusters are refused."""
    secret: str = ""
    """Proves to the other nodes that this one belongs to the cluster."""
    secret_file: str = ""
    """The same, read from a file."""
    host: str = "127.0.0.1"
    """Address for clients and peers."""
    admin_host: str = "127.0.0.1"
    """Address of the admin port; beyond loopback it asks for the password."""
    resp_port: int = 7379
    """For Redis clients."""
    admin_port: int = 7400
    """For people, probes and Prometheus (HTTP)."""
    peer_port: int = 7401
    """For other nodes."""
    peers: list[str] = []
    """`ID=HOST:PEERPORT[/RESPPORT[/ADMINPORT]][@ZONE]` of every node, this one included. What is not
    given otherwise of this node (ports, zone) is taken from its entry."""
    join: str = ""
    """Admin address of any node of a running cluster: be a new node of it."""
    join_token: str = ""
    """From `quoit node token`; not needed to join by a node on the same machine."""
    shards: int = 0
    """At creation; 0: 4, or the number of nodes if that is larger."""
    replication_factor: int = 3
    """Never more than there are nodes."""
    password: str = ""
    """Clients must AUTH with it."""
    password_file: str = ""
    """The same, read from a file."""
    election_timeout_ms: int = 300
    """A follower that hears nothing for so long, or up to twice as long, stands for election."""
    heartbeat_ms: int = 60
    """How often a leader shows itself; at most a third of election_timeout_ms."""
    lease: bool = True
    """Leaders answer reads by themselves while they hold a lease."""
    drift_ppm: int = 10_000
    """Greatest difference between the rates of two nodes' clocks, in millionths."""
    digest_interval_s: int = 600
    """How often the replicas of a shard compare digests of their data."""
    dead_after_s: int = 600
    """A node that nobody reaches for so long is dead: its replicas may be rebuilt elsewhere."""
    suspect_phi: float = 8.0
    """Others are asked about a node when its silence is this surprising."""
    cache_bytes: int = 128 * 1024 * 1024
    """Memory for hot records."""
    consensus: str = "raft"
    """At creation: raft or paxos."""
    quorum: str = "majority"
    """At creation: who accepts a write, a majority or all replicas (paxos only)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is worth a line."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """auto: text on a terminal, JSON elsewhere."""
    ready_file: str = ""
    """Written when clients can come, removed when they cannot any more."""


def load(
    flags: dict[str, Any], environment: dict[str, str] | None = None, file: str | None = None
) -> ServeConfig:
    """The settings in force. BadRequest with what to change when they do not fit."""
    return settled(merged(flags, environment, file))


def merged(
    flags: dict[str, Any], environment: dict[str, str] | None = None, file: str | None = None
) -> dict[str, Any]:
    """What the sources say together; a setting that none names is not in it. BadRequest."""
    values = _from_file(file) if file else {}
    _override(values, _from_environment(dict(os.environ if environment is None else environment)))
    _override(values, {key: value for key, value in flags.items() if value is not None})
    return values


def settled(given: dict[str, Any]) -> ServeConfig:
    """The settings that follow from what was given. BadRequest with what to change."""
    values = dict(given)
    for key in ("secret", "password"):
        if values.get(f"{key}_file"):
            values[key] = _read(str(values[f"{key}_file"])).strip()
    _fill_from_own_entry(values)
    try:
        config = msgspec.convert(values, ServeConfig, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"a setting does not fit: {error}") from None
    _check(config)
    return config


def _override(values: dict[str, Any], by: dict[str, Any]) -> None:
    # A password from a stronger source replaces the weaker source's password file, too.
    for key in ("secret", "password"):
        if key in by or f"{key}_file" in by:
            values.pop(f"{key}_file", None)
    values.update(by)


def _from_file(path: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"{path} is not TOML: {error}") from None
    for key in values:
        if key not in ServeConfig.__struct_fields__:
            near = did_you_mean(key, ServeConfig.__struct_fields__)
            raise BadRequest(f"{path}: there is no setting {key!r}.{near}")
    return values


def _from_environment(environment: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in sorted(environment.items()):
        if not key.startswith("QUOIT_") or key in NOT_SETTINGS:
            continue
        name = key[6:].lower()
        if name not in ServeConfig.__struct_fields__:
            known = [f"QUOIT_{field.upper()}" for field in ServeConfig.__struct_fields__]
            raise BadRequest(f"there is no setting {key}.{did_you_mean(key, known)}")
        values[name] = [part.strip() for part in text.split(",")] if name == "peers" else text
    return values


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None


def _fill_from_own_entry(values: dict[str, Any]) -> None:
    for text in values.get("peers") or []:
        peer = parse_peer(str(text))
        if str(peer.id) == str(values.get("node_id", 1)):
            values.setdefault("peer_port", peer.peer_port)
            values.setdefault("resp_port", peer.resp_port)
            values.setdefault("admin_port", peer.admin_port)
            if peer.zone and not values.get("zone"):
                values["zone"] = peer.zone


def _check(config: ServeConfig) -> None:
    _check_exposure(config)
    if config.consensus not in ("raft", "paxos"):
        raise BadRequest(f"consensus is raft or paxos, not {config.consensus!r}")
    if config.quorum not in MODES:
        raise BadRequest(f"quorum is {' or '.join(MODES)}, not {config.quorum!r}")
    if config.quorum != "majority" and config.consensus != "paxos":
        raise BadRequest(
            f"quorum {config.quorum!r} takes another protocol: quoit serve --consensus paxos "
            f"--quorum {config.quorum}"
        )
    if config.heartbeat_ms < 1 or config.heartbeat_ms * 3 > config.election_timeout_ms:
        raise BadRequest("election_timeout_ms must be at least three times heartbeat_ms")
    bounds = {
        "node_id": (0, 65_535), "workers": (1, 64), "shards": (0, 1024), "replication_factor": (1, 15),
        "drift_ppm": (0, 500_000), "digest_interval_s": (1, 1_000_000),
        "dead_after_s": (1, 1_000_000), "suspect_phi": (0.5, 100),
        "cache_bytes": (0, 1 << 40), "resp_port": (1, 65_535),
        "admin_port": (1, 65_535), "peer_port": (1, 65_535),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        if not low <= getattr(config, name) <= high:
            raise BadRequest(f"{name} must be between {low} and {high}")
    if not 0 < config.weight <= WEIGHT_MAX:
        raise BadRequest(f"weight must be above 0 and at most {WEIGHT_MAX}")
    if config.zone and not _ZONE.fullmatch(config.zone):
        raise BadRequest(
            f"a zone is a short name of letters, digits and . _ -, not {config.zone!r}"
        )
    ports = [config.resp_port, config.admin_port, config.peer_port]
    if len(dict.fromkeys(ports)) < len(ports):
        raise BadRequest(f"the three ports must differ, these are given: {ports}")


def _check_exposure(config: ServeConfig) -> None:
    for name in ("host", "admin_host"):
        address = getattr(config, name)
        if not is_loopback(address) and not config.password:
            flag = f"--{name.replace('_', '-')}"
            raise BadRequest(
                f"{name} {address} can be reached by others, and no password is set; "
                "one of these helps:\n"
                f"  quoit serve {flag} 127.0.0.1\n"
                f"  quoit serve {flag} {address} --password-file FILE\n"
                f"  QUOIT_PASSWORD_FILE=FILE quoit serve {flag} {address}"
            )
    exposed = not is_loopback(config.host) and (
        len(config.peers) > 1 or config.workers > 1 or bool(config.join)
    )
    if exposed and len(config.secret) < SECRET_CHARACTERS_MIN:
        raise BadRequest(
            f"nodes that can be reached by others need a cluster secret of at least "
            f"{SECRET_CHARACTERS_MIN} characters:\n"
            "  openssl rand -hex 32 > quoit.secret    (once; the same file on every node)\n"
            "  quoit serve --secret-file quoit.secret ..."
        )


def parse_peer(text: str) -> PeerAddress:
    """`ID=HOST:PEERPORT[/RESPPORT[/ADMINPORT]][@ZONE]`; an IPv6 host in brackets. BadRequest otherwise."""
    try:
        number, _, address = text.partition("=")
        address, at, zone = address.partition("@")
        place, *others = address.split("/")
        host, _, port = place.rpartition(":")
        defaults = [str(ServeConfig().resp_port), str(ServeConfig().admin_port)]
        resp, admin = others + defaults[len(others) :]
        if not host or int(number) < 1 or (at and not _ZONE.fullmatch(zone)):
            raise ValueError(text)
        return PeerAddress(
            int(number), f"n{int(number)}", host.strip("[]"), int(port), int(resp), int(admin), zone
        )
    except ValueError:
        raise BadRequest(
            f"{text!r} is no peer; write ID=HOST:PEERPORT/RESPPORT/ADMINPORT, "
            "as in 1=10.0.0.1:7401/7379/7400; @ZONE may follow"
        ) from None


def peer_entry(peer: PeerAddress) -> str:
    """`peer` as it stands in a list of peers: what parse_peer reads."""
    host = f"[{peer.host}]" if ":" in peer.host else peer.host
    zone = f"@{peer.zone}" if peer.zone else ""
    return f"{peer.id}={host}:{peer.peer_port}/{peer.resp_port}/{peer.admin_port}{zone}"


def node_options(config: ServeConfig) -> NodeOptions:
    """What the runtime is started with. `peers` holds addresses as others see them, so this node's
    own entry may differ from what it listens on (0.0.0.0, a mapped port)."""
    config = msgspec.structs.replace(config, node_id=config.node_id or 1)
    name = config.name or f"n{config.node_id}"
    peers = [parse_peer(text) for text in config.peers]
    numbers = [peer.id for peer in peers]
    if len(dict.fromkeys(numbers)) < len(numbers):
        raise BadRequest(f"a node is listed twice among the peers: {sorted(numbers)}")
    if peers and config.node_id not in numbers:
        raise BadRequest(f"node {config.node_id} is not among its own peers {sorted(numbers)}")
    if not peers:
        ports = (config.peer_port, config.resp_port, config.admin_port)
        peers = [PeerAddress(config.node_id, name, config.host, *ports, config.zone)]
    own = next(peer for peer in peers if peer.id == config.node_id)
    if own.zone != config.zone:
        entry = peer_entry(msgspec.structs.replace(own, zone=config.zone))
        raise BadRequest(
            f"node {config.node_id} is in zone {config.zone!r}, the list of peers does not say so; write "
            f"{entry} there, on every node"
        )
    own = msgspec.structs.replace(own, name=name, weight=config.weight)
    peers = [own, *(peer for peer in peers if peer.id != own.id)]
    return NodeOptions(
        node_id=config.node_id,
        name=name,
        cluster_id=config.cluster_id,
        secret=(config.secret or config.cluster_id).encode(),
        data_dir=config.data_dir,
        host=config.host,
        peer_port=config.peer_port,
        resp_port=config.resp_port,
        admin_port=config.admin_port,
        peers=sorted(peers, key=lambda peer: peer.id),
        shards=config.shards,
        consensus=config.consensus,
        quorum=config.quorum,
        replication_factor=config.replication_factor,
        election_timeout_us=config.election_timeout_ms * 1000,
        heartbeat_us=config.heartbeat_ms * 1000,
        lease_enabled=config.lease,
        drift_ppm=config.drift_ppm,
        cache_bytes=config.cache_bytes,
        digest_interval_us=config.digest_interval_s * 1_000_000,
        dead_after_us=config.dead_after_s * 1_000_000,
        suspect_phi=config.suspect_phi,
    )
