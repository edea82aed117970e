"""`quoit serve --workers N`: the supervisor of a machine's workers, which are ordinary nodes in processes
of their own.

A worker's standard input is a pipe that only the supervisor holds. When it ends, the worker stops in
order: that is how it is asked to, and what a killed supervisor leaves behind. Signals would not do: systemd
and terminals send them to workers, too, and the second one means `at once`.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from quoit.base.errors import QuoitError
from quoit.cli.banner import machine_banner
from quoit.cli.config import WORKER, ServeConfig
from quoit.cli.logs import configure_logging
from quoit.cli.ready import NOTIFY, say_ready, say_stopping
from quoit.cli.shared import FAILED, OK, USAGE
from quoit.cli.worker_settings import Worker, remember_workers
from quoit.runtime.disk import RealDisk
from quoit.runtime.nodes_file import read_view

__all__ = ["marked", "run_workers"]

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
STEADY_S = 30.0
"""A worker that ran for so long is restarted as soon as one that never crashed."""
STOP_S = 20.0
"""A worker that has not stopped by then is killed; its own grace is shorter."""
_POLL_S = 0.05

logger = structlog.get_logger("quoit")


def run_workers(workers: list[Worker], settings: ServeConfig) -> int:
    """Run the workers until a signal; the exit code. settings: the machine's."""
    configure_logging(settings)
    settings = msgspec.structs.replace(settings, node_id=workers[0].config.node_id)
    try:
        remember_workers(settings)
    except (QuoitError, OSError) as error:
        print(f"quoit: the workers could not start: {error}", file=sys.stderr, flush=True)
        return FAILED
    return asyncio.run(_Supervisor(workers, settings).run())


def marked(name: str, line: bytes) -> bytes:
    """A line of a worker's output (without its end) that says whose it is; JSON stays JSON."""
    if line.startswith(b'{"'):
        return b'{"worker": "%s", %s\n' % (name.encode(), line[1:])
    return b"%s | %s\n" % (name.encode(), line)


class _Process:
    """A worker's process, or the next one after it.

    up      set when it has opened its ports once
    wait_s  how long to wait after the next crash
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.name = worker.name
        self.ready_file = Path(worker.config.ready_file)
        self.process: Process | None = None
        self.up = asyncio.Event()
        self.wait_s = BACKOFF_FIRST_S

    async def run(self, log_format: str) -> int:
        """Start it and wait for its end; the exit code, negative for a signal."""
        # What a killed one left would say that this one is ready.
        self.ready_file.unlink(missing_ok=True)
        environment = {key: value for key, value in os.environ.items() if key != NOTIFY}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "quoit", "serve", *self.worker.words, "--log-format", log_format,
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**environment, WORKER: "1"},
            # Ctrl-C is for the supervisor, which then asks the workers.
            start_new_session=True,
        )  # fmt: skip
        self.process = process
        try:
            await asyncio.gather(
                _lines(process.stdout, lambda line: self.up.set()),
                _lines(process.stderr, self._say),
            )
            return await process.wait()
        finally:
            self.process = None

    def _say(self, line: bytes) -> None:
        sys.stderr.buffer.write(marked(self.name, line))
        sys.stderr.buffer.flush()

    @property
    def ready(self) -> bool:
        """Its clients can come."""
        return self.process is not None and self.ready_file.exists()

    def ask_to_stop(self) -> None:
        """Let it hand over and end."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()


async def _lines(stream: asyncio.StreamReader | None, take: Callable[[bytes], None]) -> None:
    rest = b""
    while stream is not None and (data := await stream.read(65_536)):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            take(line)
    if rest:
        take(rest)


class _Supervisor:
    """All workers of the machine.

    asked  how many times somebody asked to stop; the second time means at once
    code   the exit code
    """

    def __init__(self, workers: list[Worker], settings: ServeConfig) -> None:
        self.settings = settings
        self.processes = [_Process(worker) for worker in workers]
        self.asked = 0
        self.code = OK
        self.stop = asyncio.Event()
        self.log_format = settings.log_format
        if self.log_format == "auto":
            # A worker sees a pipe where the supervisor may see a terminal.
            self.log_format = "text" if sys.stderr.isatty() else "json"

    async def run(self) -> int:
        """Start, watch, stop; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGQUIT, self._pass_on, signal.SIGQUIT)
        keeping = asyncio.gather(*(self._keep(process) for process in self.processes))
        greeting = loop.create_task(self._greet())
        stopping = loop.create_task(self._stop_all())
        await keeping
        greeting.cancel()
        stopping.cancel()
        say_stopping(self.settings.ready_file)
        return self.code

    def _on_signal(self) -> None:
        self.asked += 1
        self.stop.set()
        if self.asked > 1:
            self.code = FAILED
            for process in self.processes:
                process.kill()

    def _pass_on(self, number: int) -> None:
        for process in self.processes:
            if process.process is not None:
                process.process.send_signal(number)

    async def _keep(self, process: _Process) -> None:
        """Run a worker, again after each crash, until all are to stop."""
        while not self.stop.is_set():
            began = time.monotonic()
            code = await process.run(self.log_format)
            if self.stop.is_set():
                break
            if code == OK:
                logger.warning("worker_stopped", worker=process.name)
                break
            if code == USAGE or (code > 0 and not process.up.is_set()):
                # What it said stands above. It would say the same again.
                self._end(code)
                break
            if time.monotonic() - began >= STEADY_S:
                process.wait_s = BACKOFF_FIRST_S
            logger.error(
                "worker_crashed", worker=process.name, how=_how(code), restart_in_s=process.wait_s
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), process.wait_s)
            process.wait_s = min(2 * process.wait_s, BACKOFF_MAX_S)

    def _end(self, code: int) -> None:
        if not self.stop.is_set():
            self.code = code
            self.stop.set()

    async def _stop_all(self) -> None:
        await self.stop.wait()
        say_stopping(self.settings.ready_file)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            # Again and again: one may have been starting just now.
            for process in self.processes:
                process.ask_to_stop()
            await asyncio.sleep(_POLL_S)
        for process in self.processes:
            if process.process is not None:
                logger.error("worker_killed", worker=process.name, reason="it did not stop in time")
                self.code = self.code or FAILED
                process.kill()

    async def _greet(self) -> None:
        for process in self.processes:
            await process.up.wait()
        configs = [process.worker.config for process in self.processes]
        view = read_view(RealDisk(configs[0].data_dir))
        if view is not None:
            print(machine_banner(view, configs, self.settings), flush=True)
        while not all(process.ready for process in self.processes):
            await asyncio.sleep(_POLL_S)
        logger.info("ready", workers=[process.name for process in self.processes])
        say_ready(self.settings.ready_file)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
