"""A data directory belongs to one node of one cluster, and says so clearly."""

import json
import random

import msgspec
import pytest

from quoit.base.checksum import crc32c
from quoit.base.errors import BadRequest, Corruption, DiskFault
from quoit.sim.disk import SimDisk
from quoit.storage.identity import Identity, claim

OWN = Identity("cluster-a", 1, 4, 3)


def test_a_directory_is_claimed_once_and_durably() -> None:
    disk = SimDisk(random.Random(1))
    assert claim(disk, OWN, 71) == 71
    disk.crash()
    assert claim(disk, OWN, 72) == 71


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Identity("cluster-b", 1, 4, 3), "belongs to cluster cluster-a, not cluster-b"),
        (Identity("cluster-a", 2, 4, 3), "belongs to node 1, not 2"),
        (Identity("cluster-a", 1, 8, 3), "number of shards of 4, not 8"),
        (Identity("cluster-a", 1, 4, 5), "replication factor of 3, not 5"),
        (Identity("cluster-a", 1, 4, 3, "paxos"), "consensus raft, not paxos"),
    ],
)
def test_another_owner_is_refused_in_words(other: Identity, words: str) -> None:
    disk = SimDisk(random.Random(1))
    claim(disk, OWN, 1)
    with pytest.raises(BadRequest, match=words):
        claim(disk, other, 1)
    assert claim(disk, OWN, 9) == 1


def test_a_newer_format_is_named_and_not_called_damaged() -> None:
    disk = SimDisk(random.Random(1))
    claim(disk, OWN, 1)
    file = disk.open("node.json")
    stored = {"identity": {"format": 7, "things": "unknown"}, "signature": "x"}
    file.truncate(0)
    file.pwrite(0, json.dumps(stored).encode())
    with pytest.raises(BadRequest, match="has format 7"):
        claim(disk, OWN, 1)


def test_every_flipped_byte_is_found() -> None:
    size = len(msgspec.json.encode({"identity": OWN, "crc": crc32c(msgspec.json.encode(OWN))}))
    for at in range(size):
        disk = SimDisk(random.Random(1))
        claim(disk, OWN, 1)
        disk.flip_at("node.json", at, at % 7)
        with pytest.raises((Corruption, BadRequest)):
            claim(disk, OWN, 1)


def test_a_claim_that_was_cut_off_is_made_again() -> None:
    for seed in range(40):
        disk = SimDisk(random.Random(seed))
        disk.sync_error(times=1 + seed % 2)
        with pytest.raises(DiskFault):
            claim(disk, OWN, 1)
        disk.clear_faults()
        disk.crash(torn=True)
        claim(disk, OWN, 1)
        disk.crash()
        assert claim(disk, OWN, 9) == 1
