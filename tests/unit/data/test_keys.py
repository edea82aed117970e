import pytest

from quoit.base.slots import DATABASES, home_slot, slot_for, slot_of
from quoit.data import keys

# Known answers of CLUSTER KEYSLOT.
SLOTS = [
    (b"foo", 12182),
    (b"bar", 5061),
    (b"hello", 866),
    (b"123456789", 0x31C3),
    (b"", 0),
    (b"{foo}bar", 12182),
    (b"x{foo}{bar}", 12182),
    (b"{user1000}.following", 3443),
    (b"{user1000}.followers", 3443),
]


@pytest.mark.parametrize(("key", "slot"), SLOTS)
def test_slot_is_that_of_redis_cluster(key, slot):
    assert slot_of(key) == slot


@pytest.mark.parametrize("key", [b"foo{}{bar}", b"foo{bar", b"foo}bar{", b"{}", b"{"])
def test_without_a_closed_tag_the_whole_key_counts(key):
    from binascii import crc_hqx

    assert slot_of(key) == crc_hqx(key, 0) % 16384


def test_nested_tag_ends_at_the_first_closing_brace():
    assert slot_of(b"foo{{bar}}zap") == slot_of(b"{bar")


def test_physical_key_holds_database_slot_and_hash_in_order():
    physical = keys.physical_key(0, b"foo")
    assert physical == b"m\x00" + (12182).to_bytes(2, "big") + bytes.fromhex("8c736521") + b"foo"
    assert keys.split_physical(physical) == (0, b"foo")
    assert keys.position_of(physical) == 12182 << 32 | 0x8C736521


def test_other_databases_have_one_slot_each():
    for db in range(1, DATABASES):
        for key in (b"foo", b"bar", b"{x}y"):
            physical = keys.physical_key(db, key)
            assert keys.split_physical(physical) == (db, key)
            assert keys.position_of(physical) >> 32 == home_slot(db) == slot_for(db, key)


def test_ranges_of_neighbouring_shards_meet_and_cover_each_key_once():
    shards = [(0, 5000), (5001, 12182), (12183, 16383)]
    ranges = [keys.shard_ranges(low, high) for low, high in shards]
    for db in (0, 1, 9, 15):
        for key in (b"foo", b"bar", b"a", b"b", b"c", b"\xff" * 9):
            physical = keys.physical_key(db, key)
            owners = [
                number
                for number, parts in enumerate(ranges)
                if any(low <= physical < high for low, high in parts)
            ]
            slot = slot_for(db, key)
            assert owners == [n for n, (low, high) in enumerate(shards) if low <= slot <= high]


def test_pinned_databases_of_other_shards_add_no_range():
    assert keys.shard_ranges(0, 16383, [3]) == [
        *keys.database_ranges(0, 0, 16383),
        *keys.database_ranges(3, 0, 16383),
    ]
    home = home_slot(3)
    assert keys.database_ranges(3, home + 1, 16383) == []
    assert keys.shard_ranges(home + 1, 16383, [3]) == keys.database_ranges(0, home + 1, 16383)


@pytest.mark.parametrize(
    ("text", "position", "slot"),
    [
        (b"0", 0, 0),
        (b"5", 5, 0),
        (b"%d" % (7 << 32 | 9), 7 << 32 | 9, 7),
        (b"%d" % (16384 << 32), keys.CURSOR_END, 16383),
        (b"18446744073709551615", keys.CURSOR_END, 16383),
        (b"18446744073709551616", None, 0),
        (b"-1", None, 0),
        (b"", None, 0),
        (b"1x", None, 0),
        (b"9" * 5000, None, 0),
    ],
)
def test_cursor(text, position, slot):
    assert keys.parse_cursor(text) == position
    assert keys.cursor_slot(text) == slot


def test_index_keys_sort_by_time():
    physical = keys.physical_key(2, b"k")
    early, late = keys.index_key(255, physical), keys.index_key(256, physical)
    assert early < late
    assert keys.split_index_key(late) == (256, physical)
