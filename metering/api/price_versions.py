"""`/prices/versions`: the price lists that were loaded. Only an admin key comes here."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Controller, get, post
from litestar.params import FromQuery, JSONBody

from metering.api import pages
from metering.api.auth import admin_only
from metering.api.server import ApiRequest
from metering.api.text import has_control, moment
from metering.core.price_changes import Change
from metering.duties.prices import Loaded, Upload, load
from metering.errors import InvalidRequest
from metering.store import prices as stored
from metering.store.prices import PriceVersion
from pricing.load import digest

LISTING = "price_versions"
BODY_BYTES_MAX = 32 * 1024 * 1024
NOTE_CHARS_MAX = 1_000
CHANGES_MAX = 1_000


class LoadPrices(msgspec.Struct, kw_only=True):
    """The body of a new price list: either files, or a version to load again."""

    files: dict[str, str] = {}
    version: int | None = None
    accept: list[str] = []
    note: str = ""
    dry_run: bool = False


class VersionObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A price list that was loaded; version 0 are the package's own files."""

    version: int
    name: str
    """As rows have it: `price_version`."""
    digest: str
    note: str = ""
    loaded_at: datetime | None = None
    loaded_by: str


class ChangeObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A price that differs from a time on."""

    model: str
    since: datetime = msgspec.field(name="from")
    service_tier: str
    above: int = 0
    unit: str
    before: str | None = None
    after: str | None = None


class LoadedObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of a price list."""

    request_id: str = ""
    in_force: VersionObject
    unchanged: bool
    dry_run: bool
    changed: int
    changes: list[ChangeObject]
    added: list[str]


class PriceVersionController(Controller):
    """Load price lists, and list them."""

    path = "/prices/versions"
    tags = ("prices",)
    guards = (admin_only,)

    @post(request_max_body_size=BODY_BYTES_MAX)
    async def load(self, request: ApiRequest, data: JSONBody[LoadPrices]) -> LoadedObject:
        """Put a price list in force, live within seconds; a bad one changes nothing."""
        services = request.services
        upload = Upload(
            files={name: text.encode() for name, text in _checked(data).items()},
            version=data.version,
            accept=data.accept,
            note=data.note,
            loaded_by=request.user.key_id or "operator",
            dry_run=data.dry_run,
        )
        loaded = await load(services.store, services.prices.packaged, upload, services.clock())
        await services.prices.refresh()
        if not (loaded.unchanged or data.dry_run):
            await services.directory.changed("prices")
        return loaded_object(loaded, upload, request.request_id)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """A page of price lists, newest first; which is in force, and whether the package's are
        newer."""
        prices = request.services.prices
        found = await stored.page(
            request.services.store,
            page_size=limit,
            cursor=pages.read_cursor(request, LISTING, cursor),
        )
        return pages.page(
            request,
            LISTING,
            [version_object(it) for it in found.items],
            found.cursor,
            in_force=version_object(prices.version),
            packaged={"digest": digest(prices.packaged), "newer": prices.newer},
        )


def loaded_object(loaded: Loaded, upload: Upload, request_id: str = "") -> LoadedObject:
    """What became of a price list, as callers see it."""
    return LoadedObject(
        request_id=request_id,
        in_force=version_object(loaded.version),
        unchanged=loaded.unchanged,
        dry_run=upload.dry_run,
        changed=len(loaded.changes),
        changes=[_change(it) for it in loaded.changes[:CHANGES_MAX]],
        added=loaded.added,
    )


def version_object(version: PriceVersion) -> VersionObject:
    """A version as callers see it."""
    return VersionObject(
        version=version.version,
        name=f"{version.version}-{version.digest}",
        digest=version.digest,
        note=version.note,
        loaded_at=moment(version.loaded_ms) if version.version else None,
        loaded_by=version.loaded_by,
    )


def _change(change: Change) -> ChangeObject:
    return ChangeObject(
        model=change.model,
        since=moment(change.at_ms),
        service_tier=change.service_tier,
        above=change.above,
        unit=change.unit,
        before=change.before,
        after=change.after,
    )


def _checked(data: LoadPrices) -> dict[str, str]:
    """The files; exactly one of files and version is given."""
    if bool(data.files) == (data.version is not None):
        raise InvalidRequest("give either files or a version to load again", field="files")
    if len(data.note) > NOTE_CHARS_MAX or has_control(data.note):
        raise InvalidRequest(
            f"note has control characters, or more than {NOTE_CHARS_MAX}", field="note"
        )
    for name in data.files:
        if has_control(name) or not name.endswith(".json"):
            raise InvalidRequest(f"{name!r} is not the name of a price file, x.json", field="files")
    return data.files
