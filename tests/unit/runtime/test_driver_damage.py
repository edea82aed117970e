"""What a node's process does when something in it raises damage: stop, note it, ask to be started again."""

import asyncio

import pytest

from quoit.base.errors import Corruption, Diverged, EngineDamaged
from quoit.runtime.driver import Driver
from tests.unit.runtime.test_driver import OK, Client, options, run


async def alone(driver):
    """It no longer looks for peers. Not in the middle of an attempt: wait_for may lose that."""
    for dialer in driver.dialers.values():
        await asyncio.sleep(0.02)
        await dialer.stop()
    driver.dialers.clear()


def break_at(driver, where, error):
    part = driver.engine if where == "flush" else driver.node
    original = getattr(part, where)

    def fail(*args):
        # Once: the process ends in order here, which a real one does not.
        setattr(part, where, original)
        raise error

    setattr(part, where, fail)


@pytest.mark.parametrize("where", ["end_turn", "tick", "on_persisted", "flush"])
@pytest.mark.parametrize(
    ("error", "peers", "heals", "aside"),
    [
        (EngineDamaged("block 7"), 2, True, True),
        (Corruption("entry 7"), 2, True, False),
        (Diverged("digest"), 2, False, False),
        (EngineDamaged("block 7"), 1, False, False),
    ],
)
def test_damage_stops_the_node_and_the_next_start_heals_it(
    tmp_path, where, error, peers, heals, aside
):
    async def main():
        driver = Driver(options(tmp_path, ports=(0,) * peers))
        await driver.start()
        await alone(driver)
        data = tmp_path / "n1" / "data"
        data.mkdir(exist_ok=True)
        break_at(driver, where, error)
        if where == "flush":
            driver.node.hold_log_for_flush()
        elif where == "on_persisted":
            driver._guarded(driver.node.on_persisted, None)
        driver.kick()
        assert str(error) in await asyncio.wait_for(driver.failed, 3)
        assert driver.heals == heals
        await driver.stop()
        again = Driver(options(tmp_path, ports=(0,) * peers))
        await again.start()
        await alone(again)
        assert bool(again.node.rebuilding) == again.node.status().rebuilding.startswith("block 7")
        assert bool(again.node.rebuilding) == aside == (tmp_path / "n1" / "data.damaged").exists()
        await again.stop()

    run(main)


def test_a_node_without_peers_stops_at_damage_and_keeps_its_data(tmp_path):
    async def fill():
        driver = Driver(options(tmp_path, engine="rocks", cache_bytes=0))
        await driver.start()
        client = Client(driver)
        for number in range(200):
            assert await client.ask("SET", f"k{number}", "v" * 200) == OK
        await driver.stop()

    async def read():
        driver = Driver(options(tmp_path, engine="rocks", cache_bytes=0))
        with pytest.raises(EngineDamaged, match=r"\.sst.*nothing was changed"):
            await driver.start()
        assert not driver.heals

    run(fill)
    for table in (tmp_path / "n1" / "data").glob("*.sst"):
        data = bytearray(table.read_bytes())
        data[-5] ^= 4
        table.write_bytes(data)
    run(read)
    assert list((tmp_path / "n1" / "data").glob("*.sst"))
    assert not (tmp_path / "n1" / "damage.json").exists()
