"""`xproxy import`: what there is elsewhere, brought along."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import rich_click as click
from rich.console import Console

from metering.cli.litellm_rows import Row, Rows
from metering.cli.session import Session, fail, managed, show_table
from metering.client import encode
from metering.errors import XproxyError
from metering.store import litellm
from metering.store.litellm import Source

OUTCOMES = ("imported", "unchanged", "exists", "refused")
BATCH_ITEMS_MAX = 100
BATCH_BYTES_MAX = 512 * 1024
PART_S = 120.0
STEPS = 20
"""How often progress is said, at most."""
REFUSALS_SHOWN_MAX = 50
_PARTS: tuple[tuple[str, str, str], ...] = (
    ("budgets", "LiteLLM_BudgetTable", "holders"),
    ("teams", "LiteLLM_TeamTable", "holders"),
    ("users", "LiteLLM_UserTable", "holders"),
    ("customers", "LiteLLM_EndUserTable", "holders"),
    ("keys", "LiteLLM_VerificationToken", "keys"),
    ("days", "LiteLLM_DailyUserSpend", "days"),
)
"""What is imported, in an order in which nobody refers to what comes later: name, table, member."""


@click.group("import")
def command() -> None:
    """Bring along keys, budgets and what was spent from another service."""


@command.command("litellm")
@click.option("--database-url", required=True, help="DATABASE_URL of LiteLLM; it is only read.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--history/--no-history", default=True, show_default=True, help="What past days cost, too."
)
@managed
def from_litellm(session: Session, /, *, database_url: str, dry_run: bool, history: bool) -> None:
    """Import the keys, budgets, teams, users and customers of a LiteLLM database.

    Keys go on working as they are, budgets go on from what was spent. It may be run again, after a
    fault or later: what was imported before stays as it is here.

    \b
    xproxy import litellm --database-url postgresql://litellm@db/litellm --dry-run
    xproxy import litellm --database-url postgresql://litellm@db/litellm
    """
    taking = _Import(session, dry_run=dry_run)
    try:
        asyncio.run(taking.all(database_url, history=history))
    except XproxyError as error:
        fail(error.message)
    taking.tell()


class _Import:
    """One run."""

    def __init__(self, session: Session, *, dry_run: bool) -> None:
        self._session = session
        self._dry_run = dry_run
        self._rows = Rows(datetime.now(UTC))
        self._counts: dict[str, Counter[str]] = {}
        self._refusals: list[dict[str, Any]] = []
        self._console = Console(stderr=True)

    async def all(self, url: str, *, history: bool) -> None:
        """Read the database at one moment, and send what it has."""
        async with litellm.opened(url) as source:
            async for row in source.rows("LiteLLM_ModelTable"):
                self._rows.note_aliases(row)
            async for row in source.rows("LiteLLM_BudgetWindowSpend"):
                self._rows.note_window(row)
            for name, table, member in _PARTS:
                if name != "days" or history:
                    await self._part(source, name, table, member)

    async def _part(self, source: Source, name: str, table: str, member: str) -> None:
        shape: Callable[[Row], dict[str, Any] | None] = getattr(self._rows, name.removesuffix("s"))
        total, done = await source.count(table), 0
        self._counts[name] = Counter(skipped=0)
        async for batch in self._batches(name, source.rows(table), shape):
            answer = await asyncio.to_thread(
                self._session.client.post,
                "imports",
                "litellm",
                body={member: batch, "dry_run": self._dry_run},
                timeout_s=PART_S,
            )
            for result in answer["results"]:
                self._counts[name][result["outcome"]] += 1
                if result["outcome"] in ("refused", "exists"):
                    self._refusals.append(result)
            before, done = done, done + len(batch)
            if (
                not self._session.as_json
                and before * STEPS // total < done * STEPS // total < STEPS
            ):
                self._console.print(f"{name}: {done} of {total}", highlight=False)

    async def _batches(
        self,
        name: str,
        rows: AsyncIterator[dict[str, Any]],
        shape: Callable[[Row], dict[str, Any] | None],
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Bodies that are not too large, of rows that are to be imported."""
        batch: list[dict[str, Any]] = []
        size = 0
        async for row in rows:
            body = shape(row)
            if body is None:
                self._counts[name]["skipped"] += 1
                continue
            more = len(encode(body))
            if batch and (len(batch) >= BATCH_ITEMS_MAX or size + more > BATCH_BYTES_MAX):
                yield batch
                batch, size = [], 0
            batch.append(body)
            size += more
        if batch:
            yield batch

    def tell(self) -> None:
        """What was done; what was not makes the command fail."""
        refused = sum(counts["refused"] for counts in self._counts.values())
        if self._session.as_json:
            self._session.show_json(
                {
                    "dry_run": self._dry_run,
                    "parts": {name: dict(counts) for name, counts in self._counts.items()},
                    "not_taken": self._refusals,
                    "without_like": dict(self._rows.lost),
                }
            )
        else:
            self._tell_people()
        if refused:
            fail(f"{refused} were refused; mend what is said of them there, and run this again")

    def _tell_people(self) -> None:
        columns = (*OUTCOMES, "skipped")
        rows = [(name, *(counts[it] for it in columns)) for name, counts in self._counts.items()]
        show_table(("would be" if self._dry_run else "", *columns), rows)
        for it in self._refusals[:REFUSALS_SHOWN_MAX]:
            said = it.get("message") or "there is one of this name here, which stays as it is"
            click.echo(f"{it['kind']} {it['name']}: {it['outcome']}: {said}")
        for name, count in sorted(self._rows.lost.items()):
            click.echo(f"not taken over, as there is no like here: {name} ({count})")
