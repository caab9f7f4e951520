"""`xproxy prices own`: what an application negotiated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import rich_click as click

from metering.cli.session import Session, managed, pairs

Whose = dict[str, str | None]
"""The query that says whose rates are meant: the application's own, where it says nothing."""


def whose(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say whose rates are meant, given to a command as one `whose`."""

    @click.option("--credential", help="Of calls that this stored credential serves: its slug.")
    @click.option(
        "--limit", help="What this limit is charged, in place of what calls cost: its id."
    )
    @functools.wraps(command)
    def named(*given: Any, credential: str | None, limit: str | None, **rest: Any) -> None:
        command(*given, whose={"credential": credential, "limit": limit}, **rest)

    return named


@click.group("own")
def own() -> None:
    """What an application pays where that is not the list's price; --application names it.

    \b
    xproxy prices own set 'anthropic/*' --multiplier 0.85 --application shop
    xproxy prices own set openai/gpt-4o --price input=2 --price output=8 --from 2027-01-01
    xproxy prices own list --application shop
    xproxy prices own remove 'anthropic/*' --application shop
    xproxy prices own set '*' --multiplier 1.2 --limit resold --application shop

    With --credential a rate is of the calls that this stored credential serves (env-openai,
    env-anthropic: the operator's keys), and comes before the application's. With --limit it is
    what this limit is charged, whatever the calls cost. Of the rates that fit a model the most
    specific one holds, alone; the list is not changed.
    """


@own.command("list")
@managed
@whose
def list_(session: Session, whose: Whose) -> None:
    """List an application's own rates, or those of a credential or limit of it."""
    _show(session, session.client.get("prices", "own", **whose))


@own.command("set")
@click.argument("match")
@click.option("--multiplier", help="What the list's prices are multiplied with: 0.85.")
@click.option("--price", "prices", multiple=True, callback=pairs, help="UNIT=USD. Repeatable.")
@click.option("--from", "since", help="The date it begins, UTC (2027-01-01). At once by default.")
@click.option("--accept", is_flag=True, help="Even if a price is tenfold the list's, or zero.")
@managed
@whose
def set_(
    session: Session,
    match: str,
    *,
    multiplier: str | None,
    prices: dict[str, str],
    since: str | None,
    accept: bool,
    whose: Whose,
) -> None:
    """Set the rate of the models MATCH: PROVIDER/NAME, PROVIDER/BEGINNING*, PROVIDER/* or *.

    It takes the place of the rate with the same MATCH and date, if there is one. A price is in USD
    for as many of the unit as `xproxy prices show` says.

    \b
    xproxy prices own set 'openai/gpt-4o*' --price input=2 --price output=8
    """
    rate: dict[str, Any] = {"match": match, "from": since, "prices": prices}
    rate |= {"multiplier": multiplier} if multiplier is not None else {}
    body = {
        "rates": [*_others(session, whose, match, since), rate],
        "accept": [match] if accept else [],
    }
    _show(session, session.client.put("prices", "own", body=body, query=whose))


@own.command("remove")
@click.argument("match")
@click.option("--from", "since", help="The date of the rate, if it has one.")
@managed
@whose
def remove(session: Session, match: str, since: str | None, whose: Whose) -> None:
    """Remove the rate of MATCH; calls admitted from now on are priced without it."""
    rates = _others(session, whose, match, since)
    _show(session, session.client.put("prices", "own", body={"rates": rates}, query=whose))


@own.command("clear")
@click.confirmation_option(prompt="End all of these rates?")
@managed
@whose
def clear(session: Session, whose: Whose) -> None:
    """End all of an application's own rates, or a credential's or limit's, from now on."""
    answer = session.client.delete("prices", "own", **whose)
    session.say(answer, "None of these rates holds any more")


def _others(session: Session, whose: Whose, match: str, since: str | None) -> list[dict[str, Any]]:
    rates: list[dict[str, Any]] = session.client.get("prices", "own", **whose)["rates"]
    return [it for it in rates if (it["match"], it.get("from")) != (match, since)]


def _show(session: Session, answer: dict[str, Any]) -> None:
    rows = (
        (
            it["match"],
            it.get("from"),
            it.get("multiplier"),
            [f"{unit} {usd}" for unit, usd in it.get("prices", {}).items()],
        )
        for it in answer["rates"]
    )
    session.show(answer, ("match", "from", "multiplier", "prices"), rows)
