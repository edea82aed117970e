"""The log's bytes, as documented; old logs must stay readable, so these may only grow."""

import random

from quoit.base.checksum import crc32c
from quoit.storage import log_format as form
from quoit.storage.mark import Mark, MarkBuilder, MarkFile
from tests.unit.storage.helpers import entries, new_disk, open_log, restart, update, write


def test_the_bytes_of_a_record_are_as_documented() -> None:
    parts: list[bytes] = []
    end = form.encode_item(parts, 2, 128, form.ENTRY, 1, 3, 4, 5, b"data")
    item = b"".join(parts)
    head = bytes.fromhex("01 01 00000003 0000000000000004 0000000000000005 00000004")
    place = bytes.fromhex("0000000000000002 0000000000000080")
    assert item == head + crc32c(place + head + b"data").to_bytes(4, "big") + b"data"
    assert end == 128 + len(item) == 128 + form.ITEM_HEAD + 4
    record = form.encode_record(2, 100, form.ORDINARY, 9, item)
    head = b"QLG" + bytes.fromhex("01 01 00 0000 00000022 0000000000000009")
    head += crc32c(item).to_bytes(4, "big")
    place = bytes.fromhex("0000000000000002 0000000000000064")
    assert record == head + crc32c(place + head).to_bytes(4, "big") + item
    assert form.parse_head(2, 100, record[: form.RECORD_HEAD]) == (1, len(item), 9, crc32c(item))
    assert form.parse_head(2, 101, record[: form.RECORD_HEAD]) is None
    assert form.parse_head(3, 100, record[: form.RECORD_HEAD]) is None
    assert list(form.items(item, 128)) == [(form.ENTRY, 1, 3, 4, 5, b"data", 128)]
    assert form.parse_item(2, 128, item, 0) == (form.ENTRY, 1, 3, 4, 5, b"data", 128)
    assert form.parse_item(2, 129, item, 0) is None


def test_segment_names_sort_by_number() -> None:
    names = [form.segment_name(number) for number in (1, 9, 10, 255, 256, 1 << 40)]
    assert names == sorted(names)
    assert [form.segment_number(name) for name in names] == [1, 9, 10, 255, 256, 1 << 40]
    for name in ("x.log", "1.log", form.SPARE, "synced.mark", "zzzzzzzzzzzzzzzz.log", "node.json"):
        assert form.segment_number(name) is None


def test_a_mark_says_what_it_was_told_and_the_newest_counts() -> None:
    disk = new_disk()
    builder = MarkBuilder()
    file, found = MarkFile.open(disk)
    assert (found.sequence, found.shards) == (0, {})
    for sequence in range(1, 9):
        builder.put(sequence % 3, sequence, 2, 10 * sequence)
        file.write(builder.encode(sequence), sync=sequence % 4 == 0)
        disk.kill()
        file, found = MarkFile.open(disk)
        assert found.sequence == sequence
        assert found.shards[sequence % 3] == (sequence, 2, 10 * sequence)


def test_a_synced_mark_survives_a_power_cut_whatever_was_written_after_it() -> None:
    for seed in range(40):
        disk = new_disk(seed)
        builder = MarkBuilder()
        for shard in range(600):
            builder.put(shard, 1, 1, 1)
        file, _ = MarkFile.open(disk)
        file.write(builder.encode(1), sync=True)
        file.write(builder.encode(2), sync=True)
        for sequence in range(3, 3 + seed % 5):
            file.write(builder.encode(sequence), sync=False)
        disk.crash(torn=True)
        _, found = MarkFile.open(disk)
        assert 2 <= found.sequence < 3 + seed % 5
        assert len(found.shards) == 600


def test_a_mark_is_whole_or_not_there() -> None:
    disk = new_disk()
    file, _ = MarkFile.open(disk)
    builder = MarkBuilder()
    builder.put(1, 2, 3, 4)
    file.write(builder.encode(5), sync=True)
    encoded = builder.encode(5)
    for at in range(len(encoded)):
        twin = disk.clone(random.Random(1))
        twin.flip_at("synced.mark", 2 * 512 * 1024 + at, at % 8)
        _, found = MarkFile.open(twin)
        assert isinstance(found, Mark)
        assert (found.sequence, found.shards) == (0, {})


def test_the_log_of_version_one_stays_readable() -> None:
    # A golden file would be 8 kB of zeros; the record is small enough to stand here.
    disk = new_disk()
    log, _ = open_log(disk)
    made = write(log, update(0, entries(1, 2, size=0), hard=(1, 2)))
    assert made.data.hex() == GOLDEN
    assert restart(disk)[1].shards[0].entries == entries(1, 2, size=0)


GOLDEN = (
    "514c4701010000000000003f000000000000000202dc217731562d2a"
    "0200000000000000000000000001000000000000000200000000aec1af03"
    "0100000000000000000000000001000000000000000100000003856089d5312f31"
)
