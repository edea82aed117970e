"""The start banner: short, aligned, and the last line can be pasted."""

from pathlib import Path
from typing import Any

import pytest

from quoit.cli.banner import LINES_MAX, banner, human_bytes
from quoit.cli.config import load, node_options


def _lines(tmp_path: Path, **flags: Any) -> list[str]:
    settings = load({"data_dir": str(tmp_path), **flags}, {})
    return banner(node_options(settings), settings).splitlines()


def test_it_is_one_aligned_block_that_ends_with_the_next_command(tmp_path: Path) -> None:
    lines = _lines(tmp_path)
    assert len(lines) <= LINES_MAX
    assert len(dict.fromkeys(line.index(line.split()[1]) for line in lines[1:])) == 1
    assert lines[-1].split()[:4] == ["next", "redis-cli", "-p", "7379"]
    assert lines[-1].endswith("quoit status")
    assert "1 node, 1 copy, quorum 1" in lines[0]


def test_it_counts_the_cluster(tmp_path: Path) -> None:
    peers = [f"{number}=127.0.0.1:74{number}1/73{number}0/74{number}0" for number in range(1, 6)]
    assert "5 nodes, 3 copies, quorum 2" in _lines(tmp_path, peers=peers)[0]


def test_other_ports_are_in_the_command_to_paste(tmp_path: Path) -> None:
    last = _lines(tmp_path, resp_port=9000, admin_port=9001)[-1]
    assert "-p 9000" in last
    assert "--admin 127.0.0.1:9001" in last


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    text = "\n".join(_lines(tmp_path, password="correct-horse", secret="s" * 20, host="10.0.0.1"))
    assert "correct-horse" not in text
    assert "s" * 20 not in text
    assert "-a PASSWORD" in text
    assert "no TLS" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (12_000_000, "12 MB"), (57 * 10**9, "57 GB"), (10**13, "10 TB")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text
