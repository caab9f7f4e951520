"""The worker processes of `xproxy serve`: started on one socket, started again when they die."""

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
    """One place for a worker process, and the process that fills it."""

    first: bool
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    backoff_s: float = BACKOFF_S
    due_s: float = 0.0
    """When to start it again; monotonic."""


class Workers:
    """As many worker processes as the settings say, all accepting on one listening socket."""

    def __init__(
        self, settings: Settings, listener: socket.socket, report: Callable[[str], None]
    ) -> None:
        """`report` gets a line for people whenever a worker dies."""
        self._settings = settings
        self._listener = listener
        self._report = report
        self._workers = [Worker(first=number == 0) for number in range(settings.workers)]

    def revive(self) -> int:
        """Start every worker that is due; returns how many have died since the last time."""
        died = 0
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                died += 1
                self._bury(worker, worker.process.returncode)
            if worker.process is None and time.monotonic() >= worker.due_s:
                worker.process = self._spawn(first=worker.first)
                worker.started_s = time.monotonic()
        return died

    def stop(self, hurry: Callable[[], bool]) -> bool:
        """Let all workers finish their calls and end; whether all ended by themselves.

        A worker that is still there after the shutdown time is killed; all are if `hurry()`.
        """
        running = [worker.process for worker in self._workers if worker.process is not None]
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

    def _spawn(self, *, first: bool) -> subprocess.Popen[bytes]:
        number = self._listener.fileno()
        command = [sys.executable, "-m", "metering", "worker", "--fd", str(number)]
        return subprocess.Popen(
            [*command, "--first"] if first else command,
            env=environment(self._settings),
            pass_fds=[number],
            start_new_session=True,  # Ctrl-C is the parent's to hear; a worker gets SIGTERM
            preexec_fn=tie(signal.SIGKILL),
        )

    def _bury(self, worker: Worker, code: int) -> None:
        young = time.monotonic() - worker.started_s < YOUNG_S
        worker.backoff_s = min(worker.backoff_s * 2, BACKOFF_S_MAX) if young else BACKOFF_S
        worker.due_s = time.monotonic() + worker.backoff_s
        worker.process = None
        cause = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
        self._report(f"A worker {cause}; another starts in {worker.backoff_s:.1f} s")


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
