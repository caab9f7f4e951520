"""The processes of `xproxy serve`, workers and a keeper: started, and again when they die."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from metering.children import tie
from metering.settings import Settings, environment

BACKOFF_S, BACKOFF_S_MAX = 0.1, 10.0
"""The wait before a dead worker is started again, doubled each time it dies young."""
YOUNG_S = 30
GRACE_S = 15
"""How much longer than its own deadline a worker gets before it is killed."""


@dataclass
class Worker:
    """One place for a process, and the process that fills it."""

    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    backoff_s: float = BACKOFF_S
    due_s: float = 0.0
    """When to start it again; monotonic."""


class Workers:
    """As many workers as the settings say, all accepting on one listening socket, and a keeper."""

    def __init__(
        self, settings: Settings, listener: socket.socket, report: Callable[[str], None]
    ) -> None:
        """`report` gets a line for people whenever a process dies."""
        self._settings = settings
        self._listener = listener
        self._report = report
        accept = ("worker", "--fd", str(listener.fileno()))
        self._workers = [Worker(accept) for _ in range(settings.workers)]
        self._keeper = Worker(("keeper",))

    def revive(self) -> int:
        """Start every process that is due; returns how many have died since the last time."""
        died = 0
        for worker in (*self._workers, self._keeper):
            if worker.process is not None and worker.process.poll() is not None:
                died += 1
                self._bury(worker, worker.process.returncode)
            if worker.process is None and time.monotonic() >= worker.due_s:
                worker.process = self._spawn(worker.command)
                worker.started_s = time.monotonic()
        return died

    def stop(self, hurry: Callable[[], bool]) -> bool:
        """Let all workers finish their calls and end, then the keeper; whether all did.

        One that is still there after the shutdown time is killed; all are if `hurry()`.
        """
        ended = self._end(self._workers, hurry)
        return self._end([self._keeper], hurry) and ended

    def _end(self, workers: list[Worker], hurry: Callable[[], bool]) -> bool:
        running = [worker.process for worker in workers if worker.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + self._settings.shutdown_s + GRACE_S
        while any(process.poll() is None for process in running):
            if hurry() or time.monotonic() > deadline_s:
                for process in running:
                    process.kill()
            time.sleep(0.02)
        # One that had not begun to serve dies of the signal itself, with nothing in flight.
        return all(process.returncode in {0, -signal.SIGTERM} for process in running)

    def _spawn(self, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "metering", *command],
            stdin=subprocess.DEVNULL,
            env=environment(self._settings),
            pass_fds=[self._listener.fileno()] if command[0] == "worker" else [],
            # Ctrl-C is the parent's to hear; a worker gets SIGTERM. Not a session of its own: Linux
            # shares processors out among sessions first, and niceness would count for nothing.
            process_group=0,
            preexec_fn=tie(signal.SIGKILL),
        )

    def _bury(self, worker: Worker, code: int) -> None:
        young = time.monotonic() - worker.started_s < YOUNG_S
        worker.backoff_s = min(worker.backoff_s * 2, BACKOFF_S_MAX) if young else BACKOFF_S
        worker.due_s = time.monotonic() + worker.backoff_s
        worker.process = None
        cause = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
        self._report(f"A {worker.command[0]} {cause}; another starts in {worker.backoff_s:.1f} s")


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
