import pytest

from quoit.base.errors import Corruption
from quoit.data.effects import Effects, decode_effects, encode_effects, index_keys
from quoit.data.keys import index_key, physical_key
from quoit.data.record import encode_record

LASTING = encode_record(0, 4, 0, b"v")
PASSING = encode_record(0, 5, 99, b"v")
A, B = physical_key(0, b"a"), physical_key(0, b"b")


def test_golden_bytes():
    effects = Effects(7, 8, {0: -1}, [(b"a", b"b")], {b"k": None, b"l": b"v"}, True)
    data = encode_effects(effects)
    assert data.hex() == "970107088100ff9192c40161c4016282c4016bc0c4016cc40176c3"
    assert decode_effects(data) == effects


@pytest.mark.parametrize(
    "data", [b"", b"\x97", b"\x91\x02", b"junk", b"\x97\x02\x07\x08\x80\x90\x80\xc2"]
)
def test_damage_is_corruption(data):
    with pytest.raises(Corruption):
        decode_effects(data)


def test_index_keys_are_made_for_records_that_expire():
    assert index_keys({A: PASSING, B: LASTING, b"z": None}) == {index_key(99, A): b""}


def test_groups_hold_the_index_only_if_something_expires():
    ranges = [(b"m", b"n")]
    assert Effects(1, 1, {}, ranges, {B: LASTING}, False).groups() == [(ranges, {B: LASTING})]
    groups = Effects(1, 1, {}, ranges, {A: PASSING}, True).groups()
    assert groups == [(ranges, {A: PASSING}), ([], {index_key(99, A): b""})]


def test_counts_drop_databases_without_keys():
    counts = {0: 2, 3: 1}
    Effects(1, 1, {0: 1, 3: -1, 4: 2}, [], {}, False).count_into(counts)
    assert counts == {0: 3, 4: 2}
