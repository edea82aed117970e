"""`quoit job`: what the cluster is doing by itself, how far it is, and stopping it."""

import sys
import time
from typing import Annotated, Any

import typer

from quoit.cli.cluster_client import DEFAULT, Admin, AsJson, ask_cluster, entries, since
from quoit.cli.shared import FAILED, fail, new_app, print_json, run_app

__all__ = ["Wait", "follow", "follow_about", "main"]

app = new_app("Long work: moving replicas, splitting shards. Example: quoit job wait", group=True)

Number = Annotated[int, typer.Argument(help="As in `quoit job ls`; 0: the newest.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show the job until it ends.")]

_POLL_S = 0.3
_BEGIN_S = 60.0


@app.command("ls")
def list_jobs(admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """All jobs, the newest last."""
    jobs = ask_cluster(admin, "/v1/jobs", as_json=json)
    if json:
        print_json("Jobs", jobs)
        return
    if not jobs:
        print("no jobs yet")
    for job in jobs:
        about = f" of {job['node']}" if job["node"] else ""
        print(
            f"{job['id']:>4}  {job['kind'] + about:<24} {job['state']:<10} "
            f"{job['done']}/{job['steps']} steps  {_bytes(job['moved'])}  "
            f"{since(job['begun_ms'])} ago"
        )


@app.command()
def show(job: Number = 0, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """One job: progress, rate, what it waits for, and its log."""
    found = _job(admin, job, json)
    if json:
        print_json("Job", found)
        return
    print(_headline(found))
    print(f"  copies   {found['copies']}, at least {found['copies_min']} are needed")
    print(
        f"  bytes    {_bytes(found['moved'])} moved; planned {_bytes(found['bytes'])}, "
        f"at least {_bytes(found['bytes_min'])} are needed"
    )
    if found["state"] == "running":
        eta = f"{found['eta_s']} s left" if found["eta_s"] >= 0 else "time left not known yet"
        print(f"  rate     {_bytes(found['rate'])}/s, {eta}")
    for text in found["now"]:
        print(f"  now      {text}")
    for text in found["limited_by"]:
        print(f"  limits   {text}")
    if found["reason"]:
        print(f"  why      {found['reason']}")
    for at_ms, text in found["log"]:
        print(f"  {time.strftime('%H:%M:%S', time.localtime(at_ms / 1000))}  {text}")


@app.command()
def wait(job: Number = 0, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """Show progress until the job ends; exit 1 if it failed or was cancelled."""
    follow(admin, _job(admin, job, json)["id"], json)


@app.command()
def cancel(job: Number = 0, admin: Admin = DEFAULT, json: AsJson = False) -> None:
    """Stop it. What was done stays; `quoit ring revert` goes back."""
    number = _job(admin, job, json)["id"]
    found = ask_cluster(admin, f"/v1/jobs/{number}/cancel", {}, as_json=json)
    if json:
        print_json("Job", found)
    else:
        print(f"job {number} is cancelled after {found['done']} of {found['steps']} steps")


def _job(admin: str, number: int, as_json: bool) -> dict[str, Any]:
    if not number:
        jobs = ask_cluster(admin, "/v1/jobs", as_json=as_json)
        number = jobs[-1]["id"] if jobs else 0
    found: dict[str, Any] = ask_cluster(admin, f"/v1/jobs/{number}?live", as_json=as_json)
    return found


def follow_about(admin: str, node: int, as_json: bool) -> None:
    """Follow the jobs about a node that leaves, until it is removed. Exit 1 if it stays."""
    others: list[str] = []
    said = 0
    deadline = time.monotonic() + _BEGIN_S
    while True:
        nodes = ask_cluster(admin, "/v1/nodes?all", as_json=as_json, others=others)
        # The node that was asked may be the one that goes, and stops when it is gone.
        leaving = [one for one in nodes if one["record"]["id"] == node]
        others = entries([one for one in nodes if one["record"]["id"] != node]) or others
        record = leaving[0]["record"]
        if record["state"] != "decommissioning":
            _left(record, as_json)
            return
        jobs = ask_cluster(admin, "/v1/jobs", as_json=as_json, others=others)
        newer = [job for job in jobs if job["id"] > said and job["state"] == "running"]
        failed = jobs and jobs[-1]["state"] == "failed" and jobs[-1]["node"] == record["name"]
        if newer:
            # One that is superseded goes on as the next one.
            said = newer[-1]["id"]
            _watch(admin, said, as_json, others)
            deadline = time.monotonic() + _BEGIN_S
        elif failed:
            fail(FAILED, "JOB_FAILED", jobs[-1]["reason"], "quoit job show", as_json=as_json)
        elif time.monotonic() > deadline:
            fail(FAILED, "STILL_WAITING", f"{record['name']} still waits", "quoit job show",
                 as_json=as_json)  # fmt: skip
        time.sleep(_POLL_S)


def _left(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json("NodeRecord", record)
    else:
        print(f"{record['name']} is {record['state']}")
    if record["state"] != "removed":
        raise typer.Exit(FAILED)


def follow(admin: str, number: int, as_json: bool) -> None:
    """Show a job until it ends, and exit 1 unless it is done."""
    nodes = ask_cluster(admin, "/v1/nodes", as_json=as_json)
    job = _watch(admin, number, as_json, entries(nodes))
    if as_json:
        print_json("Job", job)
    if job["state"] != "done":
        if not as_json:
            print(f"  {job['reason']}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _watch(admin: str, number: int, as_json: bool, others: list[str]) -> dict[str, Any]:
    """The job when it has ended. A bar on a terminal, lines elsewhere, nothing with as_json."""
    bar = sys.stderr.isatty() and not as_json
    said = ""
    try:
        while True:
            path = f"/v1/jobs/{number}?live"
            job: dict[str, Any] = ask_cluster(admin, path, as_json=as_json, others=others)
            text = _bar(job) if bar else _headline(job)
            if bar:
                print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            elif not as_json and text.partition(";")[0] != said:
                said = text.partition(";")[0]
                print(text, file=sys.stderr, flush=True)
            if job["state"] != "running":
                break
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        # The cluster works on; only the looking ends.
        print(f"\njob {number} goes on; look with: quoit job wait {number}, end it with: "
              f"quoit job cancel {number}", file=sys.stderr)  # fmt: skip
        raise
    if bar:
        print(file=sys.stderr)
        print(_headline(job))
    return job


def _headline(job: dict[str, Any]) -> str:
    about = f" of {job['node']}" if job["node"] else ""
    text = f"job {job['id']} ({job['kind']}{about}): {job['state']}, {job['done']} of {job['steps']} steps"
    if job["bytes_min"]:
        text += f"; {_bytes(job['moved'])} moved, {job['over']:.2f} of the least possible"
    return text


def _bar(job: dict[str, Any], width: int = 30) -> str:
    share = job["done"] / job["steps"] if job["steps"] else 1.0
    filled = round(share * width)
    eta = f"{job['eta_s']} s left" if job["eta_s"] >= 0 else ""
    bar = "#" * filled + "-" * (width - filled)
    rate = f"{_bytes(job['rate'])}/s"
    return (
        f"{job['kind']} [{bar}] {job['done']}/{job['steps']}  {_bytes(job['moved'])}  {rate}  {eta}"
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def main(argv: list[str]) -> int:
    """Run the command."""
    return run_app(app, argv, "job")
