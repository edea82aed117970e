"""What `quoit serve` says when it is up: one aligned block, and last the commands to paste next. One for
a machine, however many workers it has."""

import shutil

from quoit import __version__
from quoit.cli.config import ServeConfig
from quoit.gateways.admin.access import is_loopback
from quoit.quorum.members import quorums
from quoit.runtime.nodes_file import ClusterView
from quoit.runtime.options import NodeOptions

__all__ = ["banner", "human_bytes", "machine_banner", "url_host"]

LINES_MAX = 14
WORKERS_SHOWN = 8


def banner(options: NodeOptions, settings: ServeConfig) -> str:
    """At most LINES_MAX lines."""
    count = len(options.peers)
    copies = min(options.replication_factor, count)
    quorum = quorums(options.quorum, copies).write
    own = next(peer for peer in options.peers if peer.id == options.node_id)
    host = url_host(own.host)
    admin = f"{url_host(settings.admin_host)}:{settings.admin_port}"
    rows = [
        ("redis", f"redis://{host}:{own.resp_port}/0"),
        ("admin", f"http://{admin}/v1/status   metrics /metrics   health /livez /readyz"),
        *_data_and_note(settings),
        _next(settings, own.host, own.resp_port),
    ]
    head = (
        f"quoit {__version__}  node {options.name} · cluster {options.cluster_id} · "
        f"{_copies(count, copies)}, quorum {quorum}, {options.consensus}"
    )
    return _block(head, rows)


def machine_banner(view: ClusterView, workers: list[ServeConfig], settings: ServeConfig) -> str:
    """The same for a machine with workers. settings: the machine's."""
    own = {peer.id: peer for peer in view.nodes}
    rows = []
    for worker in workers[:WORKERS_SHOWN]:
        peer = own.get(worker.node_id)
        host, port = (peer.host, peer.resp_port) if peer else (worker.host, worker.resp_port)
        admin = f"{url_host(worker.admin_host)}:{worker.admin_port}"
        rows.append(
            (worker.name, f"redis://{url_host(host)}:{port}/0   admin http://{admin}/v1/status")
        )
    if len(workers) > WORKERS_SHOWN:
        rows.append(("", f"and {len(workers) - WORKERS_SHOWN} more, to {workers[-1].name}"))
    first = workers[0]
    rows += [*_data_and_note(settings), _next(first, first.host, first.resp_port)]
    copies = min(view.replication_factor, len(view.nodes))
    quorum = quorums(view.quorum, copies).write
    head = (
        f"quoit {__version__}  {len(workers)} workers · cluster {view.cluster_id} · zone {first.zone} · "
        f"{_copies(len(view.nodes), copies)}, quorum {quorum}, {view.consensus}"
    )
    return _block(head, rows)


def _copies(nodes: int, copies: int) -> str:
    return f"{nodes} node{'' if nodes == 1 else 's'}, {copies} cop{'y' if copies == 1 else 'ies'}"


def _data_and_note(settings: ServeConfig) -> list[tuple[str, str]]:
    free = shutil.disk_usage(settings.data_dir).free
    rows = [("data", f"{settings.data_dir}  ({human_bytes(free)} free)")]
    if not settings.password:
        rows.append(("note", "this machine only, no password, no TLS: fine on a laptop"))
    elif not is_loopback(settings.host):
        rows.append(("note", "no TLS: keep these ports inside a network that you trust"))
    return rows


def _next(settings: ServeConfig, host: str, port: int) -> tuple[str, str]:
    admin = f"{url_host(settings.admin_host)}:{settings.admin_port}"
    words = "-a PASSWORD " if settings.password else ""
    where = "" if host == "127.0.0.1" else f"-h {host} "
    status = "quoit status" if settings.admin_port == 7400 else f"quoit status --admin {admin}"
    return "next", f"redis-cli {where}-p {port} {words}set hello world   ·   {status}"


def _block(head: str, rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join([head, *(f"  {name:<{width}}  {text}" for name, text in rows)])


def url_host(host: str) -> str:
    """`host` as it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def human_bytes(count: int) -> str:
    """12 MB; decimal units."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.0f} TB"
