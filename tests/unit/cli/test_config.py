"""Settings: which source wins, what is refused and what the refusal tells."""

from pathlib import Path

import pytest

from quoit.base.errors import BadRequest
from quoit.cli.config import ServeConfig, load, node_options, parse_peer
from quoit.detector.settings import DetectorSettings

PEERS = ["1=10.0.0.1:7401/7379/7400", "2=10.0.0.2:7501/7479/7500", "3=10.0.0.3:7401"]


def _file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "quoit.toml"
    path.write_text(text)
    return str(path)


def test_defaults_are_a_single_node_on_loopback() -> None:
    config = load({}, {})
    assert config == ServeConfig()
    options = node_options(config)
    assert [peer.id for peer in options.peers] == [1]
    assert (options.replication_factor, options.host, options.resp_port) == (3, "127.0.0.1", 7379)


def test_flags_win_over_variables_over_file_over_defaults(tmp_path: Path) -> None:
    file = _file(tmp_path, 'name = "file"\ndata_dir = "file"\ncluster_id = "file"')
    environment = {"QUOIT_NAME": "variable", "QUOIT_DATA_DIR": "variable"}
    config = load({"name": "flag"}, environment, file)
    assert (config.name, config.data_dir, config.cluster_id) == ("flag", "variable", "file")
    assert config.resp_port == 7379


def test_variables_are_converted() -> None:
    config = load({}, {"QUOIT_SHARDS": "8", "QUOIT_LEASE": "false", "QUOIT_PEERS": "1=a:1, 2=b:2"})
    assert (config.shards, config.lease, config.peers) == (8, False, ["1=a:1", "2=b:2"])


def test_variables_of_other_commands_and_programs_are_left_alone() -> None:
    environment = {"QUOIT_URL": "x", "QUOIT_ADMIN": "x", "QUOIT_CONFIG": "x", "HOME": "/"}
    assert load({}, environment) == ServeConfig()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"QUOIT_SHARD": "8"}, ["QUOIT_SHARD", "QUOIT_SHARDS"]),
        ({"QUOIT_SHARDS": "many"}, ["shards"]),
        ({"QUOIT_LOG_LEVEL": "loud"}, ["log_level"]),
        ({"QUOIT_PASSWORD_FILE": "/nowhere"}, ["/nowhere"]),
        ({"QUOIT_RESP_PORT": "70000"}, ["resp_port", "65535"]),
        ({"QUOIT_RESP_PORT": "7400"}, ["ports must differ"]),
        ({"QUOIT_CONSENSUS": "zab"}, ["raft or paxos", "zab"]),
        ({"QUOIT_QUORUM": "all"}, ["--consensus paxos"]),
        ({"QUOIT_QUORUM": "some"}, ["majority or all"]),
        ({"QUOIT_HEARTBEAT_MS": "200"}, ["three times"]),
        ({"QUOIT_HEARTBEAT_MS": "0"}, ["heartbeat"]),
        ({"QUOIT_NODE_ID": "-1"}, ["node_id"]),
        ({"QUOIT_PEERS": "one"}, ["'one'", "ID=HOST"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    environment: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(BadRequest) as caught:
        load({}, environment)
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_key_in_the_file_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="Did you mean 'password'"):
        load({}, {}, _file(tmp_path, 'pasword = "x"'))


def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="TOML"):
        load({}, {}, _file(tmp_path, "= 3"))
    with pytest.raises(BadRequest, match="cannot be read"):
        load({}, {}, str(tmp_path / "absent"))


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("word\n")
    (tmp_path / "s").write_text("s" * 32 + "\n")
    file = _file(tmp_path, f'secret_file = "{tmp_path}/s"\npassword_file = "{tmp_path}/p"')
    config = load({}, {}, file)
    assert (config.password, config.secret) == ("word", "s" * 32)


def test_a_password_of_a_stronger_source_wins_over_a_weaker_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("weak")
    file = _file(tmp_path, f'password_file = "{tmp_path}/p"')
    assert load({"password": "strong"}, {}, file).password == "strong"
    assert load({}, {"QUOIT_PASSWORD": "strong"}, file).password == "strong"
    (tmp_path / "q").write_text("stronger")
    assert load({"password_file": str(tmp_path / "q")}, {"QUOIT_PASSWORD": "x"}).password == (
        "stronger"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "127.evil.example", "localhost.a"])
@pytest.mark.parametrize("name", ["host", "admin_host"])
def test_an_open_door_without_password_is_refused_with_the_ways_out(name: str, host: str) -> None:
    with pytest.raises(BadRequest) as caught:
        load({name: host}, {})
    fixes = [line for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert len(fixes) == 3
    assert all("quoit serve" in line for line in fixes)
    assert getattr(load({name: host, "password": "x"}, {}), name) == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_password(host: str) -> None:
    assert load({"host": host}, {}).host == host


def test_peers_beyond_loopback_need_a_secret() -> None:
    flags = {"host": "10.0.0.1", "password": "x", "peers": PEERS}
    with pytest.raises(BadRequest, match="secret"):
        load(flags, {})
    with pytest.raises(BadRequest, match="16 characters"):
        load({**flags, "secret": "short"}, {})
    assert load({**flags, "secret": "s" * 16}, {}).secret == "s" * 16


def test_peers_are_parsed_with_default_ports() -> None:
    one, two, three = (parse_peer(text) for text in PEERS)
    assert (one.peer_port, one.resp_port, one.admin_port) == (7401, 7379, 7400)
    assert (two.id, two.name, two.host, two.peer_port) == (2, "n2", "10.0.0.2", 7501)
    assert (three.resp_port, three.admin_port) == (7379, 7400)
    assert parse_peer("4=[fe80::1]:7401").host == "fe80::1"


@pytest.mark.parametrize(
    "text", ["", "1", "1=", "1=:7401", "=h:1", "0=h:1", "x=h:1", "1=h:p", "1=h:1/a", "1=h:1/2/3/4"]
)
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_peer(text)


def test_ports_come_from_the_own_entry_unless_they_are_given() -> None:
    flags = {"peers": PEERS, "node_id": 2}
    config = load(flags, {})
    assert (config.peer_port, config.resp_port, config.admin_port) == (7501, 7479, 7500)
    assert load({**flags, "resp_port": 9000}, {}).resp_port == 9000


def test_others_reach_this_node_at_its_entry_not_at_what_it_listens_on() -> None:
    flags = {"peers": PEERS, "host": "0.0.0.0", "password": "x", "secret": "s" * 16, "name": "a"}
    options = node_options(load(flags, {}))
    assert options.host == "0.0.0.0"
    own = options.peers[0]
    assert (own.id, own.host, own.name) == (1, "10.0.0.1", "a")


def test_the_own_node_must_be_listed_and_none_twice() -> None:
    with pytest.raises(BadRequest, match="not among"):
        node_options(load({"peers": PEERS, "node_id": 4}, {}))
    with pytest.raises(BadRequest, match="twice"):
        node_options(load({"peers": [*PEERS, PEERS[0]]}, {}))


def test_more_copies_than_nodes_are_wanted_for_when_there_are_more() -> None:
    assert node_options(load({"peers": PEERS[:2]}, {})).replication_factor == 3
    assert node_options(load({"replication_factor": 2}, {})).replication_factor == 2


def test_times_reach_the_runtime_in_microseconds() -> None:
    options = node_options(load({"election_timeout_ms": 900, "heartbeat_ms": 100}, {}))
    assert (options.election_timeout_us, options.heartbeat_us) == (900_000, 100_000)
    assert node_options(load({"dead_after_s": 45}, {})).dead_after_us == 45_000_000


def test_the_failure_detector_has_its_own_defaults() -> None:
    options = node_options(load({}, {}))
    expected = DetectorSettings()
    assert options.dead_after_us == expected.dead_after_us
    assert options.suspect_phi == expected.phi_threshold
    assert node_options(load({}, {"QUOIT_SUSPECT_PHI": "6.5"})).suspect_phi == 6.5
    with pytest.raises(BadRequest, match="suspect_phi"):
        load({"suspect_phi": 0.2}, {})
