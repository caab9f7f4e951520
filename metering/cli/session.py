"""What the management commands share: connection, options, output and failures."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Concatenate, NoReturn, ParamSpec

import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from metering.client import Client, ClientError, encode, find
from metering.core.keys import local_token
from metering.settings import SettingsError, read

Parameters = ParamSpec("Parameters")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Session:
    """A connection to the service, and how the command was asked to print."""

    def __init__(self, client: Client, as_json: bool) -> None:
        self.client = client
        self.as_json = as_json

    def show(
        self, answer: object, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """Print the answer as JSON, or its rows as a table."""
        if self.as_json:
            self.show_json(answer)
            return
        show_table(columns, rows)

    def show_json(self, answer: object) -> None:
        """Print an answer as one line of JSON."""
        click.echo(encode(answer))

    def say(self, answer: object, sentence: str) -> None:
        """Print the answer as JSON, or a sentence about it."""
        if self.as_json:
            self.show_json(answer)
        else:
            click.echo(sentence)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table for people."""
    # ids are there to be copied: whatever has to give way for room, they stay whole
    shaped = (Column(name, overflow="fold", no_wrap=name == "id") for name in columns)
    table = Table(*shaped, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell(value)) for value in row))
    console = Console()
    if table.row_count == 0:
        console.print("Nothing here yet.")
    else:
        console.print(table)


url_option = click.option(
    "--url", help="Address of the service. [dim]XPROXY_URL; else the run file[/]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def managed(
    command: Callable[Concatenate[Session, Parameters], None],
) -> Callable[Parameters, None]:
    """Give a command a Session and its options; a refusal becomes one line and exit code 1."""

    @url_option
    @click.option("--application", help="Id of the application to act for (admin keys).")
    @json_option
    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        url, application = kwargs.pop("url"), kwargs.pop("application")
        as_json = bool(kwargs.pop("as_json"))
        try:
            with connect(url, application) as client:
                command(Session(client, as_json), *args, **kwargs)
        except (ClientError, SettingsError) as error:
            fail(str(error))

    return wrapped


def fail(message: str) -> NoReturn:
    """End the command with one line on standard error and exit code 1."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(1)


def connect(url: object, application: object = None) -> Client:
    """A client of the service that a command is for; raises ClientError if there is none."""
    settings = read()
    return find(
        str(url) if url else settings.url,
        settings.api_key or settings.admin_key,
        settings.data_dir,
        lambda secret: local_token(secret, int(time.time())),
        master_secret=settings.master_secret,
        application=str(application) if application else None,
    )


def cell(value: object) -> str:
    """A value as a table shows it: money and counts without exponent, none as a dash."""
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


def amount(value: Any, unit: str) -> str:
    """An amount with its unit: `$0.0025`, `1200 tokens`."""
    return f"${cell(value)}" if unit == "usd" else f"{cell(value)} {unit}"


def number(context: click.Context, parameter: click.Parameter, value: str | None) -> Decimal | None:
    """Click callback: an exact number."""
    if value is None:
        return None
    try:
        exact = Decimal(value.replace(",", "").removeprefix("$"))
    except InvalidOperation:
        raise click.BadParameter(f"{value!r} is no number", context, parameter) from None
    if not exact.is_finite():
        raise click.BadParameter(f"{value!r} is no number", context, parameter)
    return exact


def pairs(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Click callback: `name=value` pairs."""
    found = dict(value.partition("=")[::2] for value in values)
    if not all("=" in value for value in values):
        raise click.BadParameter("give it as name=value", context, parameter)
    return found


def span_s(text: str) -> int | None:
    """Seconds of `90s`, `30m`, `24h`, `7d` or `2w`; None for anything else."""
    digits, letter = text[:-1], text[-1:]
    return int(digits) * _SECONDS[letter] if digits.isdigit() and letter in _SECONDS else None


def moment(text: str, sign: int) -> str:
    """A time for the API: a span before (sign -1) or after (+1) now, or what was given."""
    span = span_s(text)
    return text if span is None else str(int(time.time()) + sign * span)
