"""What test_against_redis.py cannot show: times, several shards and databases, limits, other types,
and the table itself. The transcript runs without a Redis at hand."""

import pytest

from quoit.base.slots import home_slot
from quoit.data.errors import WRONGTYPE
from quoit.data.keys import cursor_slot, physical_key
from quoit.data.record import encode_record
from quoit.data.table import COMMANDS

NOW_S = 1_700_000_000
NOW = NOW_S * 1000

TRANSCRIPT = f"""
SET k v                             +OK
GET k                               $1|v
SET k w NX                          $-1
SET k w XX GET                      $1|v
SET k w GET NX                      $1|w
SET k x EX 0                        -ERR invalid expire time in 'set' command
SET k x EX 9223372036854775         -ERR invalid expire time in 'set' command
SET k x EX 1 PX 1                   -ERR syntax error
SET k x PX 1500                     +OK
PTTL k                              :1500
TTL k                               :2
PEXPIRETIME k                       :{NOW + 1500}
EXPIRETIME k                        :{NOW_S + 2}
SET k y KEEPTTL                     +OK
PTTL k                              :1500
PEXPIRE k 400                       :1
TTL k                               :0
GETEX k PERSIST                     $1|y
TTL k                               :-1
TTL gone                            :-2
EXPIRE k 10 GT                      :0
EXPIRE k 10 LT                      :1
EXPIRE k 20 LT                      :0
EXPIRE k 10 GT                      :0
EXPIRE k 20 GT                      :1
EXPIRE k 20 NX                      :0
EXPIRE k 20 XX                      :1
EXPIRE k 20 NX XX                   -ERR NX and XX, GT or LT options at the same time are not compatible
EXPIRE k 20 GT LT                   -ERR GT and LT options at the same time are not compatible
EXPIRE k 20 ZZ                      -ERR Unsupported option ZZ
EXPIRE k 9223372036854775807        -ERR invalid expire time in 'expire' command
EXPIRE k -1                         :1
EXISTS k                            :0
SETEX k 10 v                        +OK
PERSIST k                           :1
PERSIST k                           :0
INCR n                              :1
INCRBY n 9223372036854775807        -ERR increment or decrement would overflow
DECRBY n -9223372036854775808       -ERR decrement would overflow
INCR k                              -ERR value is not an integer or out of range
INCRBYFLOAT n 0.5                   $3|1.5
INCRBYFLOAT n nan                   -ERR value is not a valid float
INCRBYFLOAT n inf                   -ERR increment would produce NaN or Infinity
APPEND s Hello                      :5
SETRANGE s 6 World                  :11
GETRANGE s 0 -7                     $5|Hello
STRLEN s                            :11
GETDEL s                            $11|Hello\\0World
MSET a 1 b 2                        +OK
MSET a                              -ERR wrong number of arguments for 'mset' command
MSET a 1 b                          -ERR wrong number of arguments for 'mset' command
MSETNX a 1 c 2                      :0
EXISTS a b c a                      :3
RENAME gone a                       -ERR no such key
RENAMENX a b                        :0
RENAME a b                          +OK
COPY b b                            -ERR source and destination objects are the same
COPY b c                            :1
TYPE c                              +string
TYPE gone                           +none
OBJECT ENCODING c                   $3|int
OBJECT REFCOUNT c                   :1
OBJECT IDLETIME c                   :0
OBJECT NOPE c                       -ERR unknown subcommand 'NOPE'. Try OBJECT HELP.
MEMORY USAGE c                      :27
DEL b c gone                        :2
DBSIZE                              :2
FLUSHALL                            +OK
DBSIZE                              :0
RANDOMKEY                           $-1
"""


def test_transcript(shard):
    for line in TRANSCRIPT.strip().splitlines():
        command, expected = line[:36].split(), line[36:]
        if not expected:
            command, _, expected = line.partition("  ")
            command = command.split()
        reply = shard.run(*command)
        lines = expected.encode().replace(b"\\0", b"\0").replace(b"|", b"\r\n")
        assert reply == lines + b"\r\n", line


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize(
    "args",
    ["GET k", "SET k v XX", "GETEX k", "GETDEL k", "GETSET k2 v", "RANDOMKEY", "OBJECT FREQ k"],
)
def test_null_has_the_clients_form(shard, proto, args):
    shard.proto = proto
    assert shard.run(*args.split()) == (b"_\r\n" if proto == 3 else b"$-1\r\n")


STRING_COMMANDS = [
    "GET k", "SET k v GET", "GETEX k", "GETDEL k", "GETSET k v", "INCR k", "INCRBYFLOAT k 1",
    "APPEND k v", "STRLEN k", "GETRANGE k 0 1", "SUBSTR k 0 1", "SETRANGE k 0 v", "SETRANGE k 0 ''",
]  # fmt: skip


@pytest.mark.parametrize("args", STRING_COMMANDS)
def test_wrong_type_changes_nothing(shard, args):
    shard.engine[physical_key(0, b"k")] = raw = encode_record(9, 1, 0, b"meta")
    shard.counts[0] = 1
    words = [b"" if word == "''" else word.encode() for word in args.split()]
    assert shard.run(*words) == b"-" + WRONGTYPE.encode() + b"\r\n"
    assert shard.live() == {physical_key(0, b"k"): raw}


def test_other_types_pass_where_type_does_not_matter(shard):
    shard.engine[physical_key(0, b"k")] = encode_record(9, 1, 0, b"meta")
    shard.counts[0] = 1
    assert shard.run("MGET", "k", "gone") == b"*2\r\n$-1\r\n$-1\r\n"
    assert shard.run("RENAME", "k", "l") == b"+OK\r\n"
    assert shard.run("EXPIRE", "l", "5") == b":1\r\n"
    assert shard.run("SET", "l", "v", "NX") == b"$-1\r\n"
    assert shard.run("LCS", "l", "l") == b"-ERR The specified keys must contain string values\r\n"
    assert shard.run("SET", "l", "v") == b"+OK\r\n"
    assert shard.run("GET", "l") == b"$1\r\nv\r\n"


def test_keys_expire_by_the_stamped_time_and_reads_turn_into_batches(shard):
    for name in ("a", "b"):
        shard.run("SET", name, "v", "PX", "100")
    shard.now_ms += 100
    before = shard.batches
    assert shard.run("GET", "a") == b"$1\r\nv\r\n"
    assert shard.batches == before
    shard.now_ms += 1
    assert shard.run("DBSIZE") == b":2\r\n"
    assert shard.run("GET", "a") == b"$-1\r\n"
    assert shard.batches == before + 1
    assert shard.run("GET", "a") == b"$-1\r\n"
    assert shard.batches == before + 1
    assert shard.run("KEYS", "*") == b"*0\r\n"
    assert shard.run("DBSIZE") == b":0\r\n"
    assert shard.live() == {}


@pytest.mark.parametrize(
    "args", ["EXISTS k", "TTL k", "TYPE k", "STRLEN k", "MGET k", "SCAN 0", "RANDOMKEY", "TOUCH k"]
)
def test_every_read_reports_expired_keys(shard, args):
    shard.run("SET", "k", "v", "PX", "1")
    shard.now_ms += 2
    shard.run(*args.split())
    assert shard.live() == {}


def test_a_batch_sees_itself(shard):
    replies = shard.batch(
        [b"SET", b"a", b"1"], [b"INCR", b"a"], [b"RENAME", b"a", b"b"], [b"GET", b"a"],
        [b"INCRBY", b"b", b"x"], [b"KEYS", b"*"], [b"SCAN", b"0"], [b"DBSIZE"], [b"FLUSHDB"],
        [b"SET", b"c", b"3"], [b"DBSIZE"],
    )  # fmt: skip
    assert replies == [
        b"+OK\r\n", b":2\r\n", b"+OK\r\n", b"$-1\r\n",
        b"-ERR value is not an integer or out of range\r\n", b"*1\r\n$1\r\nb\r\n",
        b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nb\r\n", b":1\r\n", b"+OK\r\n", b"+OK\r\n", b":1\r\n",
    ]  # fmt: skip
    assert shard.counts == {0: 1}


def test_databases_are_apart(shard):
    for db in range(16):
        shard.db = db
        assert shard.run("SET", "k", db) == b"+OK\r\n"
    for db in range(16):
        shard.db = db
        assert shard.run("GET", "k") == b"$%d\r\n%d\r\n" % (len(str(db)), db)
        assert shard.run("DBSIZE") == b":1\r\n"
        assert shard.run("KEYS", "*") == b"*1\r\n$1\r\nk\r\n"
    shard.db = 5
    shard.run("FLUSHDB")
    assert shard.counts == {db: 1 for db in range(16) if db != 5}
    shard.run("FLUSHALL")
    assert shard.counts == {}
    assert shard.live() == {}


def test_copy_and_move_between_databases_of_one_shard(shard):
    shard.run("SET", "k", "v", "PX", "5000")
    assert shard.run("COPY", "k", "l", "DB", "3") == b":1\r\n"
    assert shard.run("MOVE", "k", "3") == b":1\r\n"
    assert shard.run("EXISTS", "k") == b":0\r\n"
    assert shard.run("MOVE", "k", "3") == b":0\r\n"
    shard.run("SET", "k", "v")
    assert shard.run("MOVE", "k", "3") == b":0\r\n"
    shard.db = 3
    assert shard.run("PTTL", "k") == shard.run("PTTL", "l") == b":5000\r\n"


def test_copy_and_move_to_a_database_of_another_shard_is_an_error(make_shard):
    home = home_slot(3)
    shard = make_shard(home + 1, 16383) if home < 8000 else make_shard(0, home - 1)
    shard.db = 0
    key = next(b"k%d" % n for n in range(999) if shard.view.owns(0, b"k%d" % n))
    shard.run("SET", key, "v")
    for args in (["COPY", key, key, "DB", "3"], ["MOVE", key, "3"]):
        assert shard.run(*args).startswith(b"-CROSSSLOT ")
    assert len(shard.live()) == 1


def scan_all(shards, *options, db=0):
    """A whole iteration, each call routed by its cursor's slot as a node would; the keys in order."""
    found, cursor, calls = [], b"0", 0
    while True:
        slot = home_slot(db) if db else cursor_slot(cursor)
        shard = next(s for s in shards if s.view.slot_low <= slot <= s.view.slot_high)
        shard.db = db
        reply = shard.run("SCAN", cursor, *options).split(b"\r\n")
        cursor = reply[2]
        found += reply[5::2]
        calls += 1
        assert calls < 1000
        if cursor == b"0":
            return found


@pytest.mark.parametrize("count", [1, 3, 10, 1000])
def test_scan_over_shards_gives_each_key_once(make_shard, count):
    shards = [make_shard(0, 99), make_shard(100, 9000), make_shard(9001, 16383)]
    names = [b"key:%d" % number for number in range(100)]
    for name in names:
        next(s for s in shards if s.view.owns(0, name)).run("SET", name, "v")
    assert sorted(scan_all(shards, "COUNT", count)) == sorted(names)
    matching = [name for name in names if name.endswith(b"7")]
    assert sorted(scan_all(shards, "MATCH", "*7", "COUNT", count)) == sorted(matching)
    assert scan_all(shards, "TYPE", "hash", "COUNT", count) == []
    assert len(scan_all(shards, "TYPE", "STRING", "COUNT", count)) == 100


def test_scan_of_a_pinned_database(make_shard):
    home = home_slot(4)
    shards = [make_shard(0, home - 1), make_shard(home, 16383)]
    shards[1].db = 4
    for number in range(50):
        shards[1].run("SET", f"k{number}", "v")
    assert len(set(scan_all(shards, "COUNT", 7, db=4))) == 50


def test_scan_survives_changes_in_between(shard):
    for number in range(60):
        shard.run("SET", f"k{number}", "v")
    reply = shard.run("SCAN", "0", "COUNT", "20").split(b"\r\n")
    cursor, seen = reply[2], set(reply[5::2])
    for number in range(0, 60, 2):
        shard.run("DEL", f"k{number}")
    while cursor != b"0":
        reply = shard.run("SCAN", cursor, "COUNT", "20").split(b"\r\n")
        cursor = reply[2]
        seen |= set(reply[5::2])
    assert seen >= {b"k%d" % number for number in range(1, 60, 2)}


def test_scan_keeps_keys_of_equal_hash_together(shard, monkeypatch):
    """A cursor cannot point between two keys with the same slot and CRC32."""
    from quoit.data import keys

    monkeypatch.setattr(keys, "crc32", lambda key: 7)
    for name in ("{t}a", "{t}b", "{t}c"):
        shard.run("SET", name, "v")
    reply = shard.run("SCAN", "0", "COUNT", "1").split(b"\r\n")
    assert reply[2] == b"0"
    assert reply[5::2] == [b"{t}a", b"{t}b", b"{t}c"]


def test_scan_past_the_end(shard):
    shard.run("SET", "k", "v")
    for cursor in (16384 << 32, (1 << 64) - 1):
        assert shard.run("SCAN", cursor) == b"*2\r\n$1\r\n0\r\n*0\r\n"


def test_keys_of_a_literal_asks_only_the_owner(make_shard):
    low, high = make_shard(0, 8000), make_shard(8001, 16383)
    owner, other = (low, high) if low.view.owns(0, b"lit") else (high, low)
    owner.run("SET", "lit", "v")
    assert owner.run("KEYS", "lit") == b"*1\r\n$3\r\nlit\r\n"
    assert other.run("KEYS", "lit") == b"*0\r\n"


def test_randomkey_finds_every_key(shard):
    for number in range(5):
        shard.run("SET", f"k{number}", "v")
    assert len({shard.run("RANDOMKEY") for _ in range(200)}) == 5
    shard.db = 2
    shard.run("SET", "only", "v")
    assert shard.run("RANDOMKEY") == b"$4\r\nonly\r\n"


def test_strings_do_not_outgrow_the_limit(shard):
    shard.view.value_bytes_max = 10
    too_long = b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
    shard.run("SET", "k", "x" * 10)
    assert shard.run("APPEND", "k", "y") == too_long
    assert shard.run("SETRANGE", "k", "10", "y") == too_long
    assert shard.run("SETRANGE", "k", (1 << 63) - 1, "y") == too_long
    assert shard.run("SETRANGE", "k", "9", "y") == b":10\r\n"


def test_keys_have_a_length_limit(shard):
    assert shard.run("SET", b"k" * 65536, "v") == b"+OK\r\n"
    for args in (["SET", b"k" * 65537, "v"], ["RENAME", b"k" * 65536, b"l" * 65537]):
        assert shard.run(*args) == b"-ERR key is too long (at most 65536 bytes)\r\n"
    assert shard.counts == {0: 1}
    assert shard.run("GET", b"k" * 65537) == b"$-1\r\n"


def test_lcs_is_bounded_and_fast(shard):
    shard.run("SET", "a", b"ab" * 2000)
    shard.run("SET", "b", b"ba" * 2000)
    assert shard.run("LCS", "a", "b", "LEN") == b":3999\r\n"
    assert shard.run("LCS", "a", "b") == b"$3999\r\n" + (b"ab" * 2000)[1:] + b"\r\n"
    shard.run("SET", "a", b"a" * 20000)
    shard.run("SET", "b", b"b" * 20000)
    assert shard.run("LCS", "a", "b").startswith(b"-ERR Insufficient memory")


def test_errors_quote_what_was_sent_and_stay_on_one_line(shard):
    reply = shard.run("EXPIRE", "k", "1", b"\xff\r\nx")
    assert reply == b"-ERR Unsupported option \xff  x\r\n"


def test_help(shard):
    for name in ("OBJECT", "MEMORY"):
        assert shard.run(name, "HELP").startswith(b"*")
        assert shard.run(name, "help", "x") == (
            b"-ERR wrong number of arguments for '%b|help' command\r\n" % name.lower().encode()
        )


def test_the_table_is_complete():
    expected = [
        "GET",
        "SET",
        "SETNX",
        "SETEX",
        "PSETEX",
        "GETEX",
        "GETDEL",
        "GETSET",
        "MGET",
        "MSET",
        "MSETNX",
        "INCR",
        "DECR",
        "INCRBY",
        "DECRBY",
        "INCRBYFLOAT",
        "APPEND",
        "STRLEN",
        "GETRANGE",
        "SUBSTR",
        "SETRANGE",
        "DEL",
        "UNLINK",
        "EXISTS",
        "TOUCH",
        "TYPE",
        "RENAME",
        "RENAMENX",
        "COPY",
        "EXPIRE",
        "PEXPIRE",
        "EXPIREAT",
        "PEXPIREAT",
        "TTL",
        "PTTL",
        "EXPIRETIME",
        "PEXPIRETIME",
        "PERSIST",
        "KEYS",
        "SCAN",
        "RANDOMKEY",
        "FLUSHDB",
        "FLUSHALL",
        "DBSIZE",
        "OBJECT",
        "MEMORY",
        "LCS",
        "MOVE",
    ]
    assert {name.encode() for name in expected} <= COMMANDS.keys()
    groups = {"string", "generic", "server"}
    for name in expected:
        spec = COMMANDS[name.encode()]
        assert spec.name == name
        assert spec.handler is not None
        assert spec.arity != 0
        assert spec.group in groups
        assert spec.summary.endswith(".")
        assert spec.complexity.startswith("O(")
        assert not (spec.write and spec.fanout in ("each", "sum")), "writes over shards are atomic"
        assert bool(spec.first_key) or spec.fanout
