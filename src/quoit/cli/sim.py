"""`quoit sim`: hands over to the simulator's own command line."""

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run the command."""
    from quoit.sim.command import main as simulate

    return simulate(argv)
