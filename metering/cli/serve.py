"""`xproxy serve`: the parent process. It owns socket, stores and workers, and serves nothing.

The order is that of what each step needs: the port and the data directory (is somebody here
already?), the stores, the schema and the first keys, the workers. It ends in the opposite order.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import msgspec
import rich_click as click
import uvloop

from metering import app
from metering.cli import runfile, welcome
from metering.cli.workers import Workers
from metering.embedded import DataDirBusyError, Stores
from metering.errors import OurFault, StoreAway
from metering.programs import EmbeddedError
from metering.settings import Settings, SettingsError, read

READY_S = 30
"""How long the workers may take until the service answers."""


class StartError(RuntimeError):
    """The service cannot start; the message says why and what to do."""


@click.command("serve")
@click.option("--host", help="Address to listen on. [dim]XPROXY_HOST; 127.0.0.1[/]")
@click.option("--port", type=int, help="Port to listen on. [dim]XPROXY_PORT; 8787[/]")
@click.option("--workers", type=click.IntRange(1), help="Processes. [dim]XPROXY_WORKERS; 1[/]")
@click.option("--data-dir", type=Path, help="Where data is kept. [dim]XPROXY_DATA_DIR; .xproxy[/]")
@click.option(
    "--forget-secrets",
    is_flag=True,
    help="The master secret is lost: begin with another. Keys and credentials are made anew.",
)
def command(*, forget_secrets: bool, **options: object) -> None:
    """Start the service, and its own PostgreSQL and Valkey if none is configured.

    The first start prints an admin key and an application key, once.

    \b
    xproxy serve
    xproxy serve --port 9000 --workers 4
    DATABASE_URL=postgresql://... REDIS_URL=redis://... XPROXY_MASTER_SECRET=... xproxy serve
    """
    try:
        given = {name: value for name, value in options.items() if value is not None}
        settings = msgspec.structs.replace(read(), **given)
        sys.exit(Service(settings, forget_secrets=forget_secrets).run())
    except (SettingsError, StartError, EmbeddedError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


class Service:
    """One service: from its settings to its exit code."""

    def __init__(self, settings: Settings, *, forget_secrets: bool = False) -> None:
        """Nothing is opened yet. `forget_secrets`: see `app.prepare`."""
        self.settings = settings
        self.forget_secrets = forget_secrets
        self.started_s = time.monotonic()
        self.signals = 0
        self.starting = True

    def run(self) -> int:
        """Serve until a signal; 0 if every call was finished, 1 if a worker had to be killed."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # memory is full of keys and prompts
        settings = self.settings
        check_secret(settings)
        listener = listen(settings)
        stores = Stores(
            settings.data_dir,
            database_url=settings.database_url,
            redis_url=settings.redis_url,
            pg_bin=settings.pg_bin,
            valkey_bin=settings.valkey_bin,
            report=say,
        )
        try:
            database_url, redis_url = stores.start()
            self.settings = msgspec.structs.replace(
                settings, database_url=database_url, redis_url=redis_url
            )
            return self._serve(listener, stores)
        except DataDirBusyError as error:
            raise StartError(f"{error}{_who(settings)}") from None
        finally:
            listener.close()
            stores.stop()

    def _serve(self, listener: socket.socket, stores: Stores) -> int:
        settings, url = self.settings, address(listener)
        prepare_s = time.monotonic()
        try:
            prepared = app.prepare(settings, forget_secrets=self.forget_secrets)
            welcomed = uvloop.run(prepared)
        except OurFault as fault:
            raise StartError(_unprepared(fault)) from None
        say(f"Database prepared ({time.monotonic() - prepare_s:.1f} s)")
        if welcomed is not None:
            say(welcome.text(url, welcomed))
        workers = Workers(settings, listener, say)
        try:
            self._wait_ready(workers, url)
            runfile.write(settings.data_dir, self._running(url))
            self.starting = False
            if settings.anonymous == "loopback":
                say("XPROXY_ANONYMOUS=loopback: calls from this machine need no key of ours.")
            say(f"Ready at {url} ({time.monotonic() - self.started_s:.1f} s). Ctrl-C stops it.")
            while not self.signals:
                workers.revive()
                stores.revive()
                time.sleep(0.1)
            say(f"Stopping: calls in flight have {settings.shutdown_s} s to finish ...")
        finally:
            self.starting = False
            listener.close()  # who comes now is refused, rather than left waiting until we are gone
            clean = workers.stop(hurry=lambda: self.signals > 1)
            runfile.remove(settings.data_dir)
        say("Stopped." if clean else "Stopped; a worker had to be killed.")
        return 0 if clean else 1

    def _wait_ready(self, workers: Workers, url: str) -> None:
        deadline_s = time.monotonic() + READY_S
        while True:
            if workers.revive():
                raise StartError("a worker ended while it started; its reason is above")
            if ready(url):
                return
            if time.monotonic() > deadline_s:
                raise StartError(f"{url}/health/ready did not answer 200 within {READY_S} s")
            time.sleep(0.02)

    def _running(self, url: str) -> runfile.Running:
        return runfile.Running(
            pid=os.getpid(),
            url=url,
            database_url=runfile.without_password(self.settings.database_url or ""),
            redis_url=runfile.without_password(self.settings.redis_url or ""),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _signalled(self, number: int, _: FrameType | None) -> None:
        self.signals += 1
        if self.starting:
            raise SystemExit(128 + number)


def say(line: str) -> None:
    """A line of progress, at once even into a pipe."""
    click.echo(line)
    sys.stdout.flush()


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Until a worker accepts, callers wait instead of being refused."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server(
            (settings.host, settings.port),
            family=family,
            backlog=2048,
            dualstack_ipv6=settings.host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            hint = _who(settings) or "; choose another with XPROXY_PORT"
            raise StartError(f"{where} is in use{hint}") from None
        raise StartError(f"cannot listen on {where}: {error.strerror or error}") from None


def address(listener: socket.socket) -> str:
    """The URL to reach a listening socket at, from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ready(url: str) -> bool:
    """Whether the service answers that it is ready."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=1)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def check_secret(settings: Settings) -> None:
    """A secret in the data directory would not survive what an external database survives."""
    if settings.database_url and not settings.master_secret:
        raise StartError(
            "XPROXY_MASTER_SECRET is required with DATABASE_URL: keys and credentials in that "
            "database depend on it. Make one, and keep it, with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )


def _unprepared(fault: OurFault) -> str:
    """Why the database cannot be used; texts of a cause may have its password in them."""
    if not isinstance(fault, StoreAway):
        return fault.message
    return (
        f"the PostgreSQL of DATABASE_URL cannot be asked ({type(fault.__cause__).__name__}); is it "
        "there, and are special characters of the password percent-encoded?"
    )


def _who(settings: Settings) -> str:
    running = runfile.read(settings.data_dir)
    if running is None:
        return ""
    return f": xproxy runs already, at {running.url} (pid {running.pid})"
