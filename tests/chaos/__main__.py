"""`python -m tests.chaos`: run every scenario that this machine allows, on Raft and on Paxos.

It runs itself again inside namespaces of its own (network, mounts, processes): firewall rules and
mounts cannot touch the machine, and when it ends, however, nothing of it is left running.
Exit code 0: every promise held; 1: one was broken (logs are kept); 2: wrong usage.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import on_disks, on_network, on_processes
from tests.chaos.disks import SyncFaults, loop_disks_missing
from tests.chaos.firewall import Firewall
from tests.chaos.scenario import Result, Tools, run

SCENARIOS = [*on_network.SCENARIOS, *on_processes.SCENARIOS, *on_disks.SCENARIOS]
PROTOCOLS = ("raft", "paxos")
LIMIT_S = 600.0
"""For one protocol. What has not begun by then is skipped."""
NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def main() -> int:
    """Parse, go inside, run."""
    parser = argparse.ArgumentParser(prog="make chaos", description="Break real clusters.")
    parser.add_argument("--consensus", choices=PROTOCOLS, help="default: one after the other")
    parser.add_argument("--only", action="append", metavar="NAME", help="repeat for several")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [scenario.name for scenario in SCENARIOS]
    if options.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:14} {' '.join((scenario.body.__doc__ or '').split())}")
        return 0
    unknown = sorted(set(options.only or []) - set(names))
    if unknown:
        parser.error(f"there is no scenario {unknown[0]}; there are: {', '.join(names)}")
    if options.inside is None:
        why_not = _namespaces_missing()
        if not why_not:
            words = [sys.executable, "-m", "tests.chaos", "--inside", "yes", *sys.argv[1:]]
            os.execvp("unshare", ["unshare", *NAMESPACES, *words])
    else:
        why_not = ""
    protocols = [options.consensus] if options.consensus else list(PROTOCOLS)
    return asyncio.run(_run_all(protocols, options.only or names, why_not))


def _namespaces_missing() -> str:
    """Why namespaces cannot be used, or ""."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "there is no unshare or no ip (util-linux, iproute2)"
    done = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"no namespaces ({done.stderr.strip()}); run it as root"


def _look_around(directory: Path, why_not: str) -> Tools:
    tools = Tools()
    if why_not:
        tools.missing = {"firewall": why_not, "loop": why_not}
    else:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        try:
            tools.firewall = Firewall()
        except RuntimeError as error:
            tools.missing["firewall"] = str(error)
        problem = loop_disks_missing(directory)
        if problem:
            tools.missing["loop"] = problem
    try:
        tools.library = SyncFaults.build(directory)
    except RuntimeError as error:
        tools.missing["syncs"] = str(error)
    return tools


async def _run_all(protocols: list[str], names: list[str], why_not: str) -> int:
    directory = Path(tempfile.mkdtemp(prefix="quoit-chaos-"))
    tools = _look_around(directory, why_not)
    failed = False
    for protocol in protocols:
        print(f"{protocol}:", flush=True)
        began = time.monotonic()
        results: list[Result] = []
        skipped = 0
        for scenario in SCENARIOS:
            if scenario.name not in names:
                continue
            reasons = [tools.missing[need] for need in scenario.needs if need in tools.missing]
            if time.monotonic() - began > LIMIT_S:
                reasons.append(f"the {LIMIT_S:.0f} s are over")
            if reasons:
                skipped += 1
                print(f"skipped {scenario.name}: {reasons[0]}", flush=True)
                continue
            result = await run(scenario, protocol, tools, directory)
            results.append(result)
            print(result.line(), flush=True)
        bad = sum(1 for result in results if result.problem)
        failed = failed or bad > 0 or not results
        total = sum(result.operations for result in results)
        print(
            f"{protocol}: {total:,} operations checked; {len(results) - bad} scenarios passed, "
            f"{bad} failed, {skipped} skipped; {time.monotonic() - began:.0f} s",
            flush=True,
        )
    if failed:
        print(f"kept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
