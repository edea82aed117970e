"""Simulated clocks."""

from quoit.sim.clock import PPM, NodeClock, TrueTime


def test_rate_origin_and_jumps() -> None:
    true = TrueTime()
    clock = NodeClock(true, 5_000, 1_000_000, PPM * 2)
    assert (clock.now_us(), clock.wall_ms()) == (5_000, 1_000_000)
    true.now_us = 1_000_000
    assert clock.now_us() == 2_005_000
    clock.set_rate(PPM // 2)
    true.now_us = 2_000_000
    assert clock.now_us() == 2_505_000
    wall = clock.wall_ms()
    clock.jump_wall(-3_600_000)
    assert clock.wall_ms() == wall - 3_600_000
    clock.reboot(77)
    assert clock.now_us() == 77
    assert clock.wall_ms() == wall - 3_600_000


def test_true_time_of_a_deadline() -> None:
    true = TrueTime()
    for rate in (900_000, PPM, 1_100_000, 1_333_333):
        clock = NodeClock(true, 123, 0, rate)
        for ahead in (0, 1, 7, 99_999):
            at = clock.true_at(clock.now_us() + ahead)
            before, true.now_us = true.now_us, at
            assert clock.now_us() >= 123 + ahead
            true.now_us = at - 1
            assert at == before or clock.now_us() < 123 + ahead
            true.now_us = before
