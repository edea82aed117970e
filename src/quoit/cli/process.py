"""The composition root: one node process, runtime below, gateways above, from start to signal."""

import asyncio
import contextlib
import faulthandler
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import structlog

from quoit.base.errors import QuoitError
from quoit.cli.banner import banner
from quoit.cli.config import WORKER, ServeConfig
from quoit.cli.logs import configure_logging
from quoit.cli.ready import say_ready, say_stopping
from quoit.cli.shared import FAILED, OK
from quoit.gateways.admin.server import readiness, serve_admin
from quoit.gateways.resp.gateway import RespGateway, RespSettings
from quoit.runtime.driver import REMOVED_HELP, Driver
from quoit.runtime.options import NodeOptions

__all__ = ["run_node"]

GRACE_S = 5.0
"""How long a node that is asked to stop hands over leaderships and finishes what is in flight."""
OWNER_GONE_S = 10.0
"""What a worker has beyond that to close its storage."""
SWITCH_INTERVAL_S = 0.0005
READY_POLL_S = 0.02

logger = structlog.get_logger("quoit")


def run_node(options: NodeOptions, settings: ServeConfig) -> int:
    """Run the node until a signal or a failure; the exit code."""
    configure_logging(settings)
    _raise_file_limit()
    faulthandler.register(signal.SIGQUIT)
    return _runner()(_Process(options, settings).run())


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def _raise_file_limit() -> None:
    """Each client is an open file: take what the administrator allows, not the shell's default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Process:
    """What lives as long as the process.

    asked   how many times somebody asked to stop; the second time means at once
    """

    def __init__(self, options: NodeOptions, settings: ServeConfig) -> None:
        self.options = options
        self.settings = settings
        self.driver = Driver(options)
        self.asked = 0
        self.stop = asyncio.Event()

    async def run(self) -> int:
        """Start, serve, stop; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if WORKER in os.environ:
            threading.Thread(target=self._end_with_owner, args=(loop,), daemon=True).start()
        loop.set_exception_handler(self._on_exception)
        # Why: the log thread needs the interpreter for microseconds after each sync; with the
        # default of 5 ms a busy event loop would make every write wait for it.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            admin = await self._start()
        except (QuoitError, OSError) as error:
            print(f"quoit: the node could not start: {error}", file=sys.stderr, flush=True)
            if self.driver.heals:
                _start_again()
            # Why not return: threads of a half-started node would keep the process; nothing was
            # served and the log is made for ends like this one.
            os._exit(FAILED)
        print(banner(self.options, self.settings), flush=True)
        # Why: what start-up made lives for ever; the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        ready = loop.create_task(self._announce())
        stopping = loop.create_task(self.stop.wait())
        ends: list[asyncio.Future[Any]] = [stopping, self.driver.failed, self.driver.removed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        say_stopping(self.settings.ready_file)
        if self.driver.failed.done():
            reason = self.driver.failed.result()
            print(f"quoit: the node stopped itself: {reason}", file=sys.stderr, flush=True)
            # The state in memory is not trusted any more: no graceful steps.
            if self.driver.heals:
                _start_again()
            os._exit(FAILED)
        if self.driver.removed.done():
            print(f"quoit: {REMOVED_HELP}", file=sys.stderr, flush=True)
        await self.driver.stop(GRACE_S)
        with contextlib.suppress(Exception):
            await admin.cleanup()
        return OK

    async def _start(self) -> Any:
        settings = self.settings
        gateway = RespGateway(
            RespSettings(password=settings.password.encode(), port=settings.resp_port)
        )
        await self.driver.start()
        await self.driver.serve_clients(gateway.connect, settings.host, settings.resp_port)
        return await serve_admin(
            self.driver, settings.admin_host, settings.admin_port, settings.password
        )

    def _on_signal(self) -> None:
        self.asked += 1
        self.stop.set()
        if self.asked > 1:
            os._exit(FAILED)

    def _end_with_owner(self, loop: asyncio.AbstractEventLoop) -> None:
        """A worker stops when its supervisor wants it or is gone: standard input ends. In a thread, so
        that a worker whose loop hangs does not outlive it."""
        while os.read(0, 1):
            pass
        with contextlib.suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(self.stop.set)
        time.sleep(GRACE_S + OWNER_GONE_S)
        os._exit(FAILED)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception nobody caught. One in a connection ends that connection only (the loop saw
        to it); one in the node's own turn leaves a state that nobody understands: stop."""
        error = context.get("exception")
        logger.error("uncaught", what=context.get("message"), exc_info=error)
        if "handle" in context and not isinstance(error, OSError):
            self.driver.fail(f"a bug in quoit: {error!r}; please report the log above")

    async def _announce(self) -> None:
        """Tell who waits for it, once, that every shard has a leader."""
        while not all(readiness(self.driver.node.status(), False).values()):
            await asyncio.sleep(READY_POLL_S)
        logger.info("ready", node=self.options.name, resp_port=self.settings.resp_port)
        say_ready(self.settings.ready_file)


def _start_again() -> NoReturn:
    """The same command in the same process, with nothing left in memory: what a restart does, for nodes
    that nobody watches. Sockets, files and the directory's lock are closed by the kernel (PEP 446)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
