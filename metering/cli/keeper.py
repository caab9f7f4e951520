"""`xproxy keeper`: the process that does the duties. `xproxy serve` starts it."""

from __future__ import annotations

import sys

import rich_click as click
import uvloop

from metering import app
from metering.settings import read


@click.command("keeper", hidden=True)
def command() -> None:
    """Land usage rows and expire holds of the dead, until told to end."""
    sys.exit(uvloop.run(app.keep(read())))
