"""Child processes that die with us, however we die, and what root must do to run some of them.

On Linux the kernel sends a child its death signal when the thread that started it ends; so only
the main thread may start one. Elsewhere nothing does, and the next start ends the orphan.

A program that refuses to run as root (PostgreSQL) is run under one of three identities:

| identity    | when                       | what it is                                          |
|-------------|----------------------------|-----------------------------------------------------|
| `direct`    | we are not root            | ourselves                                           |
| `namespace` | root, namespaces allowed   | root's files, but called `nobody` inside            |
| `nobody`    | root, namespaces forbidden | the real `nobody`, who may pass through directories |
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

Identity = Literal["direct", "namespace", "nobody"]

NOBODY = 65534
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""All that an embedded server sees of our environment: no secrets."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT = 1, 8, 28, 47
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_OVERRIDE, _CAPABILITY_VERSION_3 = 1, 0x20080522


def tie(
    death: signal.Signals, identity: Identity = "direct", *, niceness: int = 0
) -> Callable[[], None]:
    """A `preexec_fn`: become the identity, and get `death` when our parent dies."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("only the main thread may start a child: it dies with its thread")
    parent = os.getpid()

    def enter() -> None:
        # It shares our terminal, if we have one, and may write to it although it is not in front.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        if niceness:
            os.nice(niceness)
        if identity == "namespace":
            _enter_namespace()
        elif identity == "nobody":
            _become_nobody()
        if sys.platform == "linux":  # after the identity: changing it clears the signal
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death), 0, 0, 0)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    return enter


def identity_for(program: Path) -> Identity:
    """How to run a program that refuses root; tries whether namespaces are allowed."""
    if os.geteuid() != 0:
        return "direct"
    try:
        subprocess.run(
            [program, "--version"],
            check=True,
            capture_output=True,
            env=ENVIRONMENT,
            preexec_fn=tie(signal.SIGKILL, "namespace"),
        )
    except (OSError, subprocess.SubprocessError):
        return "nobody"
    return "namespace"


def give(directory: Path, identity: Identity) -> None:
    """Make a directory and all in it belong to whom the identity is outside."""
    uid = NOBODY if identity == "nobody" else os.geteuid()
    if os.geteuid() != 0 or directory.stat().st_uid == uid:
        return
    for path in (directory, *directory.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


def residents(directory: Path, programs: Sequence[str]) -> list[int]:
    """The processes of these programs (`postgres`) that work in a directory."""
    place = str(directory.resolve())
    by_proc = Path("/proc/self/cwd").exists()
    return list(_residents_proc(place, programs) if by_proc else _residents_ps(place, programs))


def _residents_proc(place: str, programs: Sequence[str]) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
            program = Path(entry.path, "exe").readlink().name.removesuffix(" (deleted)")
            if program in programs and str(Path(entry.path, "cwd").readlink()) == place:
                yield int(entry.name)


def _residents_ps(place: str, programs: Sequence[str]) -> Iterator[int]:
    command = ["/bin/ps", "-axo", "pid=,command="]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in listing.stdout.splitlines():
        pid, _, words = line.strip().partition(" ")
        if place in words and Path(words.split(" ")[0]).name in programs:
            yield int(pid)


def _enter_namespace() -> None:
    if _LIBC.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} 0 1"),
        ("gid_map", f"{NOBODY} 0 1"),
    ):
        Path("/proc/self", name).write_text(line)


def _become_nobody() -> None:
    # PostgreSQL looks for its own programs with access(2), which else asks what `nobody` may do
    # without the capability: they may lie in /root.
    _LIBC.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    _LIBC.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    # Best effort: without it (a container that dropped the capability) the programs and the data
    # must lie where `nobody` can reach them.
    bit = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if not _LIBC.capset(header, (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)):
        _LIBC.prctl(_PR_CAP_AMBIENT, 2, _CAP_DAC_OVERRIDE, 0, 0)
