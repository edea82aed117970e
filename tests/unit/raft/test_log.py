"""EntryLog against a twin that keeps a plain list of everything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.base.errors import InvariantViolated
from quoit.quorum.agreement import EFFECTS, Entry
from quoit.quorum.entry_log import EntryLog


class Twin:
    """All entries for ever; also what the disk gives back."""

    def __init__(self) -> None:
        self.all: list[Entry] = []
        self.compacted = 0

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        return cut(self.all[low - 1 : high - 1], bytes_max)


def cut(entries: list[Entry], bytes_max: int) -> list[Entry]:
    total = 0
    for count, entry in enumerate(entries):
        total += len(entry.data)
        if total > bytes_max and count:
            return entries[:count]
    return entries


def make(terms: list[int], cache_bytes_max: int = 1 << 20) -> tuple[EntryLog, Twin]:
    twin = Twin()
    log = EntryLog([], (0, 0), twin, cache_bytes_max)
    for term in terms:
        entry = Entry(log.last_index + 1, term, EFFECTS, b"x" * 10)
        log.append(entry)
        twin.all.append(entry)
    return log, twin


STEP = st.tuples(
    st.sampled_from(["append", "append", "append", "truncate", "evict", "compact", "slice"]),
    st.integers(0, 30),
    st.integers(0, 30),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(steps=st.lists(STEP, max_size=60))
def test_a_log_behaves_as_a_list_that_is_never_forgotten(
    steps: list[tuple[str, int, int]],
) -> None:
    log, twin = make([], cache_bytes_max=40)
    term = 1
    for name, one, two in steps:
        last = len(twin.all)
        if name == "append":
            term += one == 0
            entry = Entry(last + 1, term, EFFECTS, b"x" * two)
            log.append(entry)
            twin.all.append(entry)
        elif name == "truncate" and twin.compacted < last:
            index = twin.compacted + 1 + one % (last - twin.compacted)
            log.truncate(index)
            del twin.all[index - 1 :]
        elif name == "evict":
            log.evict(min(one, last))
        elif name == "compact" and one <= last and one >= twin.compacted:
            twin.compacted = one
            log.compact(one, twin.all[one - 1].term if one else 0)
        elif name == "slice" and last > twin.compacted:
            low = twin.compacted + 1 + one % (last - twin.compacted)
            found = log.slice(low, last + 1, two)
            wanted = cut(twin.all[low - 1 :], two)
            assert found and found == wanted[: len(found)]
            assert len(found) == len(wanted) or low < log.cache_first
        log.check()
        assert log.last_index == len(twin.all)
        for index in range(len(twin.all) + 2):
            known = twin.compacted <= index <= len(twin.all)
            expected = (twin.all[index - 1].term if index else 0) if known else None
            assert log.term(index) == expected


def test_the_cache_is_bounded_once_entries_are_durable_and_applied() -> None:
    log, twin = make([1] * 100, cache_bytes_max=200)
    log.evict(0)
    assert len(log.cache) == 100
    log.evict(100)
    assert log.cache_bytes <= 200
    assert log.slice(1, 4, 1 << 20) == twin.all[:3]
    assert log.slice(99, 101, 1 << 20) == twin.all[98:]


def test_a_slice_holds_at_least_one_entry_and_no_more_bytes_than_asked() -> None:
    log, twin = make([1] * 5)
    assert log.slice(1, 6, 0) == twin.all[:1]
    assert log.slice(1, 6, 30) == twin.all[:3]
    assert log.slice(1, 6, 39) == twin.all[:3]
    assert log.slice(6, 6, 100) == []


def test_compacted_entries_cannot_be_touched() -> None:
    log, _ = make([1, 1, 2])
    log.compact(2, 1)
    for broken in (lambda: log.slice(2, 3, 9), lambda: log.truncate(2), lambda: log.compact(9, 2)):
        with pytest.raises(InvariantViolated):
            broken()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    terms=st.lists(st.integers(1, 6), max_size=12).map(sorted),
    compacted=st.integers(0, 12),
    index=st.integers(-1, 15),
    term=st.integers(0, 7),
)
def test_the_conflict_hint_is_what_a_search_from_the_end_finds(
    terms: list[int], compacted: int, index: int, term: int
) -> None:
    log, _ = make(terms)
    compacted = min(compacted, len(terms))
    if compacted:
        log.compact(compacted, terms[compacted - 1])
    expected = (log.compacted_index, log.compacted_term)
    for probe in range(min(index, len(terms)), compacted, -1):
        if terms[probe - 1] <= term:
            expected = (probe, terms[probe - 1])
            break
    assert log.conflict_hint(index, term) == expected
