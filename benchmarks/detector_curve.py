"""How often the failure detector is wrong, and how fast it is: the curve over thresholds and link models.

    PYTHONPATH=src python benchmarks/detector_curve.py [--hours 1] [--seed 1] [--only loss] [--markdown]

Simulated (src/quoit/sim/detection.py): five nodes, silent crashes, links that behave as TCP does. Per row:
wrong suspicions and wrong `unreachable` per node and hour, the time from a crash to `unreachable` in
seconds (median and 99th percentile over observers), the detector's own messages per node and second.
"""

import argparse
from dataclasses import replace

from quoit.detector.settings import DetectorSettings
from quoit.sim.detection import Conditions, simulate

TICK_US = 50_000
WORLDS = {
    "quiet": Conditions(),
    "jitter, mean 50 ms": Conditions(jitter_us=50_000),
    "loss 5 %": Conditions(loss=0.05),
    "loss 10 %": Conditions(loss=0.10),
    "loss 20 %": Conditions(loss=0.20),
    "pauses 0.1-3 s, 60 per hour": Conditions(pauses=60.0),
    "starved CPU, 20 per hour": Conditions(starved=20.0),
    "all: 5 %, pauses, starved": Conditions(loss=0.05, pauses=60.0, starved=20.0),
}
CRASHES = 8.0
"""Per node and hour; each node is down for 15 seconds."""
DOWN_US = 15_000_000
CURVE = ((8.0, 1), (2.0, 3), (4.0, 3), (8.0, 3), (12.0, 3))
"""Thresholds of phi and rounds of probes; (8, 3) are the defaults."""
# A score of 0 at most, and gaps that never count as pauses.
BLIND = {"score_max": 0, "pause_us": 1 << 60}


def variants() -> list[tuple[str, DetectorSettings]]:
    """The curve's settings by name."""
    found = [
        (f"phi {phi:g}, {rounds} round{'s' * (rounds > 1)}", settings)
        for phi, rounds in CURVE
        for settings in [DetectorSettings(tick_us=TICK_US, phi_threshold=phi, rounds=rounds)]
    ]
    one = DetectorSettings(tick_us=TICK_US, rounds=1, **BLIND)
    found.append(("phi 8, 1 round, no local health", one))
    found.append(("phi 8, 3 rounds, no local health", DetectorSettings(tick_us=TICK_US, **BLIND)))
    return found


def main() -> None:
    """Print the table, one row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0, help="simulated hours per row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    columns = (
        "world", "settings", "suspected/h", "unreachable/h", "of a sick observer", "median s",
        "p99 s", "not seen", "messages/s",
    )  # fmt: skip
    line = "| " + " | ".join(["{}"] * len(columns)) + " |"
    if not arguments.markdown:
        line = "{:<28} {:<33} {:>12} {:>14} {:>19} {:>9} {:>7} {:>9} {:>11}"
    print(line.format(*columns))
    if arguments.markdown:
        print(line.format(*["---"] * len(columns)))
    for world, conditions in WORLDS.items():
        if arguments.only not in world:
            continue
        chosen = replace(conditions, hours=arguments.hours, crashes=CRASHES, down_us=DOWN_US)
        for name, settings in variants():
            outcome = simulate(settings, chosen, arguments.seed)
            row = line.format(
                world,
                name,
                f"{outcome.rate(outcome.suspected):.1f}",
                f"{outcome.rate(outcome.unreachable):.2f}",
                f"{outcome.rate(outcome.by_sick):.2f}",
                f"{outcome.detection_s(0.5):.2f}",
                f"{outcome.detection_s(0.99):.2f}",
                outcome.missed,
                f"{outcome.messages / outcome.node_hours / 3600:.2f}",
            )
            print(row, flush=True)


if __name__ == "__main__":
    main()
