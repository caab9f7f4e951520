"""`xproxy worker`: one worker process. `xproxy serve` starts it; nobody else needs to."""

from __future__ import annotations

import socket
import sys

import rich_click as click
import uvloop

from metering import app
from metering.settings import read


@click.command("worker", hidden=True)
@click.option("--fd", type=int, required=True, help="The inherited listening socket.")
def command(fd: int) -> None:
    """Answer requests on a listening socket that the parent opened."""
    listener = socket.socket(fileno=fd)
    sys.exit(uvloop.run(app.serve(read(), [listener])))
