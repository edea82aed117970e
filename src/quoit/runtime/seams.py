"""The real clock."""

import time

__all__ = ["RealClock"]


class RealClock:
    """CLOCK_BOOTTIME counts while the machine is suspended, so that a lease cannot outlive a nap."""

    def now_us(self) -> int:
        """Microseconds since boot."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000
