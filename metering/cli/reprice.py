"""`xproxy prices reprice`: what calls would have cost by other prices, and to charge that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import rich_click as click

from metering.cli.price_files import texts
from metering.cli.session import Session, fail, managed, moment
from metering.core.repricing import DIMENSIONS
from pricing.catalogue import PriceDataError

_AMOUNTS = ("before_usd", "after_usd", "difference_usd")
_COLUMNS = ("calls", "changed", *_AMOUNTS, "percent")
_JSON = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("reprice")
@click.option("--from", "since", required=True, help="30d (ago), or a time.")
@click.option("--to", "until", help="1d (ago), or a time. Now by default.")
@click.option("--as", "as_", help="Price the calls as this model, PROVIDER/NAME.")
@click.option("--prices", "files", multiple=True, type=_JSON, help="Price file to use instead.")
@click.option("--model", help="Only calls of this model.")
@click.option("--by", type=click.Choice(DIMENSIONS), default="model", show_default=True)
@click.option("--apply", is_flag=True, help="Charge the difference, by a correction a call.")
@click.option("--run", help="Name of the corrections: a second run of a name does nothing more.")
@managed
def command(
    session: Session,
    /,
    *,
    since: str,
    until: str | None,
    files: tuple[Path, ...],
    by: str,
    **rest: Any,
) -> None:
    """Show what calls would have cost by other prices; --apply charges the difference.

    The calls' own rows stay as they are. Calls that cannot be priced exactly are counted apart.

    \b
    xproxy prices reprice --from 30d --as anthropic/claude-haiku-4-5 --by user
    xproxy prices reprice --from 2026-11-01 --to 2026-12-01 --prices openai.json
    xproxy prices reprice --from 2026-11-01 --to 2026-12-01 --apply --run november
    """
    try:
        content = texts(files)
    except PriceDataError as error:
        fail(str(error))
    body = {
        "from": moment(since, -1),
        "to": moment(until, -1) if until else str(int(time.time())),
        "as": rest.pop("as_"),
        "files": content,
        **rest,
    }
    answer = _whole(session, body)
    groups = sorted(answer["by"][by], key=lambda it: -abs(it["difference_usd"]))
    rows: list[tuple[object, ...]] = [(it.get(by), *map(it.get, _COLUMNS)) for it in groups]
    rows.append(("in all", *map(answer["total"].get, _COLUMNS)))
    session.show(answer, (by, *_COLUMNS), rows)
    if session.as_json:
        return
    click.echo(f"As of {answer['as_of']}, by the prices of {answer['price_version']}")
    apart = [f"{count} {name}" for name, count in answer["not_repriced"].items() if count]
    if apart:
        click.echo(f"Not repriced: {', '.join(apart)}")
    if answer["applied"]:
        amount = format(Decimal(answer["corrected_usd"]), "f")
        click.echo(f"Run {answer['run']} corrected {answer['corrected']} calls by ${amount}")


def _whole(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    """All parts of the answer as one; how far it is goes to standard error."""
    parts = _parts(session, body)
    whole = next(parts)
    for part in parts:
        _add(whole["total"], part["total"])
        for name in whole["not_repriced"]:
            whole["not_repriced"][name] += part["not_repriced"][name]
        for name, groups in whole["by"].items():
            known = {it.get(name): it for it in groups}
            for group in part["by"][name]:
                if group.get(name) in known:
                    _add(known[group.get(name)], group)
                else:
                    groups.append(group)
        whole["as_of"] = min(whole["as_of"], part["as_of"])
        whole["corrected"] += part["corrected"]
        whole["corrected_usd"] = Decimal(whole["corrected_usd"]) + part["corrected_usd"]
        click.echo(f"... {whole['total']['calls']} calls", err=True)
    whole.pop("cursor", None)
    return whole


def _parts(session: Session, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        part = session.client.post("prices", "reprice", body=body)
        cursor = part.get("cursor")
        body = {**body, "run": part["run"], "cursor": cursor}
        yield part
        if not cursor:
            return


def _add(sums: dict[str, Any], more: dict[str, Any]) -> None:
    for name in ("calls", "changed", *_AMOUNTS):
        sums[name] += more[name]
    if sums["before_usd"]:
        percent = Decimal(sums["difference_usd"]) * 100 / sums["before_usd"]
        sums["percent"] = percent.quantize(Decimal("0.01"), ROUND_HALF_EVEN)
