"""What the control plane is built from: every part passed in, so that tests pass in their own.

The clock gives Unix milliseconds, randomness so many bytes. `docs/api.md` is the page for callers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from metering.api.probe import Probe
from metering.core.addresses import Visitor
from metering.core.credentials import Credential
from metering.core.limits import Charge, Limit, Totals
from metering.core.record import UsageRow
from metering.duties.audit import Report
from metering.duties.prices import Prices
from metering.ledger import Correction, Hold
from metering.meter import Archive, Reports
from metering.settings import Settings
from metering.store import Store
from metering.store.requests import Name
from metering.store.usage import Entry
from metering.vault import Vault


class Caller(Protocol):
    """Who a key speaks for, as the directory knows it."""

    @property
    def application_id(self) -> str:
        """The key's application; an admin key's is the default application."""

    @property
    def key_id(self) -> str | None:
        """The public id of the key; None for the operator's own admin key."""

    @property
    def role(self) -> Literal["admin", "app", "read"]:
        """What the key may do at all."""

    @property
    def permissions(self) -> frozenset[str]:
        """What the key may do beyond its role."""

    @property
    def limit_ids(self) -> tuple[str, ...]:
        """The limits attached to the key."""


class Ledger(Protocol):
    """The live counters of limits and the results of recent calls."""

    async def define(self, limit: Limit) -> None:
        """Create or update the counters' definition of a limit."""

    async def present(self, limits: Sequence[Limit]) -> list[Totals]:
        """The counters of limits of one application, in order, each in the window that is now."""

    async def now_ms(self) -> int:
        """The time by the clock that decides which window is now."""

    async def reset(self, limit: Limit, epoch: int) -> Totals:
        """Begin a new epoch; the counters of the one before."""

    async def forget(self, application_id: str, limit_id: str) -> None:
        """Drop the counters of a deleted limit."""

    async def record(
        self, application_id: str, request_id: str
    ) -> tuple[UsageRow, tuple[Charge, ...]] | None:
        """The row and charges of a recent call; None: ask the rows."""

    async def reprice(self, run: str, call: Entry, truth: UsageRow, at_ms: int) -> Correction:
        """Charge a call what it costs by other prices, once a run."""

    async def load(self, application_id: str, limit_ids: Sequence[str]) -> None:
        """Rebuild the counters of limits that Redis does not have."""

    def settle(self, hold: Hold, row: UsageRow, tokens: int) -> Awaitable[bytes | None]:
        """Charge a call, once."""

    async def unlanded(self) -> int:
        """How many rows are not in Postgres yet."""

    async def unlanded_since_ms(self) -> int | None:
        """When the oldest row was written that is not in Postgres yet; None if all are."""

    async def request_ids_of(
        self, store: Store, application_id: str, names: Collection[Name]
    ) -> dict[Name, str]:
        """The request ids of calls, by the ids in their providers' answers."""


class Auditor(Protocol):
    """Compares the books, of one application or (None) of all."""

    async def check(self, application_id: str | None = None) -> Report:
        """What differs."""

    async def repair(self, application_id: str | None = None) -> Report:
        """What differed and was repaired, and what remains."""


class Directory(Protocol):
    """Keys and limits by name, cached; told here when they change."""

    async def admit(self, key: str, visitor: Visitor) -> Caller | None:
        """Who shows a key; None if there is no such (live) key. RateLimited for too many of
        those."""

    async def limits(self, application_id: str, limit_ids: Iterable[str]) -> list[Limit | None]:
        """Limits' definitions, in order; None: there is none of that id."""

    async def credential(self, application_id: str, slug: str) -> Credential | None:
        """A stored credential, its secret opened."""

    async def changed(self, *topics: str) -> None:
        """Drop what is cached under these topics, here and in every other worker.

        Topics: those that `metering.directory` and `core.credentials` name, `prices`, and `*` for
        everything.
        """


class Readiness(Protocol):
    """Whether the service should be given work."""

    async def problems(self) -> Sequence[str]:
        """What stands in the way, for people; empty when ready."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts `metering.api.build` makes the control plane from."""

    settings: Settings
    store: Store
    ledger: Ledger
    directory: Directory
    readiness: Readiness
    prices: Prices
    auditor: Auditor
    vault: Vault
    probe: Probe
    reports: Reports
    archive: Archive
    pepper: bytes
    """Keys are stored as `core.keys.digest(pepper, key)`."""
    cursor_secret: bytes
    """Signs the cursors of pages."""
    clock: Callable[[], int]
    """Unix milliseconds."""
    random: Callable[[int], bytes]
    """That many unpredictable bytes."""
