"""`xproxy prices`: what models cost, and the price lists that say so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from metering.cli import runfile
from metering.cli.own_prices import own
from metering.cli.price_files import texts
from metering.cli.reprice import command as reprice
from metering.cli.session import (
    Session,
    connect,
    fail,
    json_option,
    managed,
    show_table,
    url_option,
)
from metering.client import ClientError, encode
from metering.errors import XproxyError
from metering.settings import Settings, SettingsError, read
from pricing.catalogue import PriceDataError
from pricing.load import DATA

SHOWN = 40
"""So many changes are printed; --json has all."""
_MAIN = ("input", "output", "cache_read", "cache_write")


@click.group("prices", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Prices: what models cost, and the price lists that say so.

    \b
    xproxy prices list opus
    xproxy prices show openai/gpt-4o
    xproxy prices load
    xproxy prices versions
    xproxy prices own set 'anthropic/*' --multiplier 0.85 --application shop

    Prices are USD for a million tokens, a thousand uses of a tool, an image, an hour heard.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_)


command.add_command(own)
command.add_command(reprice)


@command.command("list")
@click.argument("query", required=False)
@click.option("--provider", help="Only this provider's: openai, anthropic, azure.")
@managed
def list_(session: Session, query: str | None, provider: str | None) -> None:
    """List models with what they cost now; QUERY is part of a name, or a name.

    \b
    xproxy prices list gpt-4o-2024-08-06
    xproxy prices list --provider anthropic --json | jq '.[].prices'
    """
    found = list(session.client.items("prices", q=query, provider=provider))
    columns = ("model", "from", *_MAIN, "others", "own", "source")
    session.show(found, columns, (_row(one) for one in found))
    state = session.client.get("prices", limit=1)
    if state["packaged_newer"]:
        click.echo(
            f"In force is version {state['version']}; the package has newer prices. See what they "
            "change with: xproxy prices load --dry-run",
            err=True,
        )


@command.command("show")
@click.argument("model")
@managed
def show(session: Session, model: str) -> None:
    """Show one model, PROVIDER/NAME, with every price it has had and will have.

    \b
    xproxy prices show anthropic/claude-opus-4-5
    xproxy prices show azure/gpt-4o --json
    """
    provider, _, name = model.partition("/")
    answer = session.client.get("prices", provider, name)
    columns = ("from", "tier", "above", "unit", "usd", "source")
    session.show(answer, columns, _history(answer))


@command.command("versions")
@managed
def versions(session: Session) -> None:
    """List the price lists that were loaded, newest first: the first one is in force.

    \b
    xproxy prices load --version 3    (puts an older one in force again)
    """
    found = list(session.client.items("prices", "versions"))
    rows = (
        (it["version"], it["name"], it["loaded_at"], it["loaded_by"], it.get("note"))
        for it in found
    )
    session.show(found, ("version", "name", "loaded", "by", "note"), rows)


@command.command("load")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--version", type=int, help="Load this version again instead; 0 is the package's.")
@click.option("--accept", multiple=True, help="Model whose price may move tenfold, to 0, or go.")
@click.option("--note", default="", help="Why, for those who look at the versions.")
@click.option("--dry-run", is_flag=True, help="Only show what it would change.")
@url_option
@json_option
def load(
    paths: tuple[Path, ...],
    *,
    url: str | None,
    as_json: bool,
    accept: tuple[str, ...],
    **members: Any,
) -> None:
    """Put a price list in force: running proxies have it within seconds.

    PATHS are price files or directories of such, by default the package's own. A file takes the
    place of its provider's; the others stay as they are. Nothing is loaded if anything is wrong.

    With DATABASE_URL, and no service to ask on this machine, the database is written directly.

    \b
    xproxy prices load --dry-run
    xproxy prices load openai.json --note "the contract of May" --accept openai/gpt-4o
    xproxy prices load --version 3
    """
    try:
        settings = read()
        files = {} if members["version"] is not None else texts(paths or (DATA,))
        if settings.database_url and not (url or settings.url or runfile.read(settings.data_dir)):
            _say(_load_directly(settings, files, accept, members), as_json=as_json)
            return
        with connect(url) as client:
            body = {"files": files, "accept": accept, **members}
            _say(client.post("prices", "versions", body=body), as_json=as_json)
    except (ClientError, SettingsError, PriceDataError, XproxyError) as error:
        fail(str(error))


def _load_directly(
    settings: Settings, files: dict[str, str], accept: tuple[str, ...], members: dict[str, Any]
) -> Mapping[str, Any]:
    from metering import app  # noqa: PLC0415 - half a second, which no other command needs

    content = {name: text.encode() for name, text in files.items()}
    upload = app.Upload(files=content, accept=accept, loaded_by="command line", **members)
    return asyncio.run(app.load_prices(settings, upload))


def _say(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """What became of a list, and what it changes."""
    if as_json:
        click.echo(encode(answer))
        return
    changes, name = answer["changes"], answer["in_force"]["name"]
    columns = ("model", "unit", "tier", "above", "before", "after", "from")
    if changes:
        show_table(columns, (_change(it) for it in changes[:SHOWN]))
    if answer["changed"] > SHOWN:
        click.echo(f"... and {answer['changed'] - SHOWN} more; --json has them")
    if answer["unchanged"]:
        click.echo(f"Nothing to load: version {name} has these prices")
        return
    verb = "Would change" if answer["dry_run"] else "Changed"
    click.echo(f"{verb} {answer['changed']} prices and added {len(answer['added'])} models")
    click.echo(f"Version {name} is in force")


def _change(change: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        change["model"],
        change["unit"] or "the model",
        change["service_tier"],
        change.get("above"),
        change["before"] if change["unit"] else "priced",
        change.get("after", "no price"),
        change["from"],
    )


def _row(one: Mapping[str, Any]) -> tuple[object, ...]:
    base = {
        it["unit"]: it["usd"]
        for it in one["prices"]
        if "service_tier" not in it and "above" not in it
    }
    others = [f"{unit} {usd}" for unit, usd in base.items() if unit not in _MAIN]
    main = (base.get(unit) for unit in _MAIN)
    return one["model"], one.get("from"), *main, others, _rate(one.get("own")), one["source"]


def _rate(rate: Mapping[str, Any] | None) -> str | None:
    """An own rate in a word or two."""
    if rate is None:
        return None
    return f"x {rate['multiplier']}" if "multiplier" in rate else "own prices"


def _history(answer: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for row in answer["history"]:
        brackets = {"": row["prices"], **row.get("above", {})}
        for above, prices in brackets.items():
            for unit, usd in prices.items():
                tier = row.get("service_tier", "default")
                yield row["from"], tier, above, unit, usd, row["source"]
