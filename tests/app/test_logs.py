"""Logs: where it went wrong and of which type it was, and never what was said there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from metering.app.logs import trace
from metering.errors import InvalidRequest, ProviderTimeout, StoreAway

ROOT = Path(__file__).parent.parent.parent
SECRET = "sk-a-secret"


def traced(raised: BaseException, *, because: BaseException | None = None) -> str:
    """The trace of an exception that was raised here."""
    try:
        fail(raised, because)
    except BaseException as error:  # noqa: BLE001
        return trace((type(error), error, error.__traceback__))


def fail(raised: BaseException, because: BaseException | None) -> NoReturn:
    """Where it went wrong."""
    raise raised from because


@pytest.mark.parametrize(
    ("raised", "name"),
    [
        (ValueError(f"no number: {SECRET}"), "builtins.ValueError"),
        (KeyError(SECRET), "builtins.KeyError"),
        (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), "builtins.UnicodeDecodeError"),
        (InvalidRequest(f"Header x is {SECRET}"), "metering.errors.InvalidRequest"),
        (OSError(28, SECRET), "builtins.OSError: ENOSPC"),
        (ConnectionResetError(SECRET), "builtins.ConnectionResetError: no number"),
        (StoreAway("Redis is closed"), "metering.errors.StoreAway: Redis is closed"),
        (ProviderTimeout(), "ProviderTimeout: The provider did not answer in time."),
    ],
)
def test_a_trace_ends_with_the_type(raised: BaseException, name: str) -> None:
    """Texts are left out but for those we wrote; of system errors the number has a name."""
    text = traced(raised)
    assert text.endswith(name)
    assert "in fail\n    raise raised" in text
    assert SECRET not in text


def test_a_trace_tells_what_led_to_it() -> None:
    """Causes come first, then what they led to; a circle of causes ends."""
    cause = ValueError(SECRET)
    cause.__cause__ = raised = StoreAway()
    text = traced(raised, because=cause)
    first, second = text.split("\nwhich led to\n")
    assert first == "builtins.ValueError"
    assert "metering.errors.StoreAway" in second
    assert SECRET not in text


PROGRAM = f"""
import asyncio, gc, logging
from metering.app.logs import configure_logs, watch

class Clumsy:
    def __del__(self):
        raise ValueError("{SECRET}")

async def fail(argument):
    raise KeyError(argument)

async def main():
    watch(asyncio.get_running_loop())
    task = asyncio.create_task(fail("{SECRET}"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(int, "{SECRET}")
    await asyncio.sleep(0.01)

configure_logs()
logging.getLogger("library").warning("cannot use %s", "{SECRET}")
try:
    int("{SECRET}")
except ValueError:
    logging.getLogger("library").exception("failed")
Clumsy()
asyncio.run(main())
raise RuntimeError("{SECRET}")
"""


def test_whatever_ends_up_in_the_log_says_no_values() -> None:
    """What libraries log, what nobody waits for, what cannot be raised, what ends a process."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert SECRET not in ended.stderr
    logged = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(it["event"], it.get("what")) for it in logged] == [
        ("library", "cannot use %s"),
        ("library", "failed"),
        ("not_raised", None),
        ("nobody_waited", "Task exception was never retrieved"),
        ("nobody_waited", "Exception in a callback"),
        ("ended_by_a_fault", None),
    ]
    types = [it["exception"].rpartition(".")[2] for it in logged[1:]]
    assert types == ["ValueError", "ValueError", "KeyError", "ValueError", "RuntimeError"]
