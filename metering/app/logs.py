"""Logs: one JSON line an event, to standard error. They name no values, which may be secrets.

Of what went wrong they say where, and of which type it was. The text of an exception may quote what
a caller, a provider or the operator wrote (`invalid literal for int(): 'my password'`); it is left
out, unless the exception is of our own tree, whose texts we know. The same goes for what libraries
log, and for what nobody caught.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import structlog

from metering.errors import OurFault, ProviderFault

log = structlog.get_logger()
Raised = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logs() -> None:
    """Have everything that this process says, of its own accord or not, go this way."""
    structlog.configure(
        processors=PROCESSORS,
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    sys.excepthook = lambda *raised: log.critical("ended_by_a_fault", exc_info=raised)
    sys.unraisablehook = lambda it: log.error("not_raised", exc_info=it.exc_value)


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Log what goes wrong on a loop where nobody waits for it."""
    loop.set_exception_handler(_nobody_waited)


def _nobody_waited(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # all else in there shows tasks, transports and callbacks, and these what they were given
    what = "Exception in a callback" if "handle" in context else context["message"]
    log.error("nobody_waited", what=what, exc_info=context.get("exception"))


class _Libraries(logging.Handler):
    """What libraries log: the text as it stands in their code, without what is put into it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it our way."""
        log.log(
            record.levelno, "library", name=record.name, what=record.msg, exc_info=record.exc_info
        )


def trace(exc_info: Raised) -> str:
    """Where an exception and what led to it went, and of which types they are."""
    return "\nwhich led to\n".join(reversed([_one(error) for error in _chain(exc_info[1])]))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _one(error: BaseException) -> str:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, OurFault | ProviderFault):
        name += f": {error.message}"
    elif isinstance(error, OSError):
        name += f": {errno.errorcode.get(error.errno or 0, 'no number')}"
    return "".join(traceback.format_tb(error.__traceback__)) + name


PROCESSORS = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
    structlog.processors.ExceptionRenderer(trace),
    structlog.processors.JSONRenderer(),
)
"""What makes a line of an event."""
