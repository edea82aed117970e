"""What the commands say: the sentence of status, the demo's arithmetic, errors of kv."""

import json
from typing import Any

import pytest
import redis

from quoit.cli import kv
from quoit.cli.main import dispatch
from quoit.cli.status import sentence, state_of
from quoit.cli.writers import longest_pause


def _status(leaders: list[int], up: list[int]) -> dict[str, Any]:
    return {
        "peers": [
            {"id": number, "name": f"n{number}", "connected": number in up} for number in (1, 2, 3)
        ],
        "shards": [{"leader": leader, "replicas": [1, 2, 3]} for leader in leaders],
    }


@pytest.mark.parametrize(
    ("leaders", "up", "good", "words"),
    [
        ([1, 2, 3, 1], [1, 2, 3], True, "All 4 shards have a leader; 3 of 3 nodes live; you can "
         "lose 1 more node."),
        ([1, 1], [1, 2], False, "2 of 3 nodes live; you can lose 0 more nodes."),
        ([1, 0], [1, 2, 3], False, "1 of 2 shards have no leader"),
        ([0, 0], [1], False, "some shards have no quorum and accept no writes"),
    ],
)  # fmt: skip
def test_the_sentence_is_true(leaders: list[int], up: list[int], good: bool, words: str) -> None:
    healthy, text = sentence(_status(leaders, up))
    assert healthy is good
    assert words in text


def test_damage_on_this_node_is_said() -> None:
    status = _status([1, 1], [1, 2, 3])
    status["shards"][0]["role"] = "damaged"
    healthy, text = sentence(status)
    assert not healthy and "1 of this node's replicas is damaged" in text
    healthy, text = sentence({**_status([1, 1], [1, 2, 3]), "rebuilding": "block 7"})
    assert not healthy and "they come anew from the other replicas" in text


def test_the_dead_are_named_and_count_as_not_live() -> None:
    status = _status([1, 1], [1, 2, 3])
    assert "dead" not in sentence(status)[1]
    status["peers"][2].update(state="dead", returned=False)
    healthy, text = sentence(status)
    assert not healthy and "2 of 3 nodes live" in text and "n3 is dead for this node." in text
    status["peers"][2]["returned"] = True
    assert "n3 is dead for this node, and has returned" in sentence(status)[1]
    assert "no majority" in sentence({**status, "isolated": True})[1]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"connected": True}, "● live"),
        ({"connected": False, "state": "live"}, "○ not connected"),
        ({"connected": True, "state": "suspect"}, "◐ suspect"),
        ({"connected": False, "state": "unreachable"}, "✕ unreachable"),
        ({"connected": False, "state": "dead", "returned": False}, "✕ dead"),
        ({"connected": True, "state": "dead", "returned": True}, "✕ dead, returned"),
    ],
)
def test_the_state_of_a_node_in_words(facts: dict[str, Any], words: str) -> None:
    assert state_of(facts) == words


SLOTS = (100, 200)


@pytest.mark.parametrize(
    ("moments", "pause"),
    [
        ([], 10.0),
        ([(15.0, 150)], 5.0),
        ([(12.0, 100), (13.0, 200), (19.0, 150)], 6.0),
        ([(12.0, 150), (13.0, 99), (14.0, 201), (18.0, 150)], 6.0),
        ([(1.0, 150), (25.0, 150)], 10.0),
    ],
    ids=["none", "one", "edges count", "other shards do not", "outside the time does not"],
)
def test_the_longest_pause(moments: list[tuple[float, int]], pause: float) -> None:
    assert longest_pause(moments, SLOTS, since=10.0, until=20.0) == pause


class _Refusing:
    """A client whose every command meets one error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def execute_command(self, *words: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "kind", "retryable"),
    [
        (redis.exceptions.ClusterDownError("shard 1 has no leader"), 8, "SHARD_NO_LEADER", True),
        (redis.ResponseError("BUSY too many"), 8, "OVERLOADED", True),
        (redis.ResponseError("UNKNOWN maybe applied: ..."), 1, "MAYBE_APPLIED", False),
        (redis.ResponseError("WRONGTYPE ..."), 1, "REFUSED", False),
        (redis.AuthenticationError("Authentication required."), 7, "UNAUTHENTICATED", False),
        (redis.ConnectionError("refused"), 3, "CANNOT_CONNECT", True),
        (redis.TimeoutError("slow"), 3, "CANNOT_CONNECT", True),
    ],
)
def test_each_error_has_its_code(
    error: Exception,
    code: int,
    kind: str,
    retryable: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kv, "connect_url", lambda url: _Refusing(error))
    assert dispatch(["kv", "put", "a", "b", "--json"]) == code
    streams = capsys.readouterr()
    told = json.loads(streams.err)["error"]
    assert (told["code"], told["retryable"]) == (kind, retryable)
    assert streams.out == ""


class _Store:
    """As much of a server as `kv` asks for."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.words: list[tuple[Any, ...]] = []

    def execute_command(self, *words: Any) -> Any:
        self.words.append(words)
        name, key, *rest = words
        if name == "SET":
            if "NX" in rest and key in self.data:
                return None
            self.data[key] = rest[0]
            return b"OK"
        if name == "DEL":
            return int(self.data.pop(key, None) is not None)
        if name == "SCAN":
            # Two steps, as a server with many keys would.
            keys = sorted(name.encode() for name in self.data)
            return (b"7", keys[:2]) if int(key) == 0 else (b"0", keys[2:])
        return self.data.get(key)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> _Store:
    found = _Store()
    monkeypatch.setattr(kv, "connect_url", lambda url: found)
    return found


def test_values_come_out_as_they_went_in(
    store: _Store, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    store.data["raw"] = b"\x00\xff\n"
    assert dispatch(["kv", "get", "raw"]) == 0
    assert capfdbinary.readouterr().out == b"\x00\xff\n"
    assert dispatch(["kv", "get", "raw", "--json"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["data"] == {
        "key": "raw",
        "value_base64": "AP8K",
    }


def test_put_get_del_and_their_codes(store: _Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["kv", "put", "a", "1", "--ttl", "0.0001"]) == 0
    assert store.words[-1] == ("SET", "a", b"1", "PX", 1)
    assert dispatch(["kv", "put", "a", "2", "--if-absent"]) == 5
    assert store.data["a"] == b"1"
    assert dispatch(["kv", "get", "b"]) == 4
    assert dispatch(["kv", "del", "a", "b"]) == 0
    assert dispatch(["kv", "del", "a"]) == 4
    assert capsys.readouterr().out == ""


def test_scan_follows_the_cursor_and_stops_at_the_limit(
    store: _Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.data.update(dict.fromkeys("abcd", b""))
    assert dispatch(["kv", "scan"]) == 0
    assert capsys.readouterr().out.split() == ["a", "b", "c", "d"]
    assert dispatch(["kv", "scan", "--limit", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == ["a", "b", "c"]
    assert dispatch(["kv", "scan", "--limit", "1"]) == 0
    assert capsys.readouterr().out.split() == ["a"]


def test_an_address_that_is_none_is_a_usage_error() -> None:
    assert dispatch(["kv", "get", "a", "--url", "nonsense"]) == 2


def test_nobody_at_the_address_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (
        ["kv", "get", "a", "--url", "redis://127.0.0.1:1/0"],
        ["bench", "--url", "redis://127.0.0.1:1/0"],
        ["status", "--admin", "127.0.0.1:1"],
        ["status", "--admin", "nonsense"],
    ):
        assert dispatch(argv) == 3
        assert capsys.readouterr().out == ""
