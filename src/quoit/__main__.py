"""`python -m quoit` is the `quoit` command."""

from quoit.cli.main import run

if __name__ == "__main__":
    run()
