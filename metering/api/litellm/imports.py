"""`/imports/litellm`: what a LiteLLM database has, brought along. `xproxy import litellm` asks.

What binds somebody is there before he is, with what was spent of it: a request that failed half-way
is sent again, and who is here already stays as he is.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import cast

import msgspec
from litestar import Controller, post
from litestar.params import JSONBody

from metering.api import caps
from metering.api.auth import admin_only
from metering.api.key_shapes import checked_label
from metering.api.litellm import holders, openings, virtual_keys
from metering.api.litellm.holdings import effective
from metering.api.litellm.import_shapes import (
    Import,
    ImportAnswer,
    Imported,
    ImportedDay,
    ImportedHolder,
    ImportedKey,
    Outcome,
    spent_pico,
)
from metering.api.litellm.shapes import who
from metering.api.server import ApiRequest
from metering.api.text import time_ms
from metering.core.ids import uuid7_text
from metering.core.keys import LITELLM_HASH, digest
from metering.core.money import usd
from metering.core.record import UsageRow
from metering.core.terms import Holder, Terms, prefix
from metering.core.terms import caps as caps_of
from metering.errors import Conflict, InvalidRequest, XproxyError
from metering.store import keys, profiles, usage
from metering.store.keys import KeyRow
from metering.store.profiles import Profile

ORIGIN = "litellm"
"""In the details of who was brought along."""
DAY_ENTRY = "imported"
"""Of rows that are sums of a day: being no calls of ours, they count as none."""
NOON_MS = 12 * 3_600_000


class ImportController(Controller):
    """Bring along what there was elsewhere."""

    path = "/imports"
    tags = ("imports",)
    guards = (admin_only,)

    @post("/litellm", status_code=200)
    async def litellm(self, request: ApiRequest, data: JSONBody[Import]) -> ImportAnswer:
        """Import a part of a LiteLLM database; what was imported before stays as it is."""
        results = []
        for holder in data.holders:
            taking = _holder(request, holder, dry=data.dry_run)
            results.append(await _told(holder.kind, holder.name, taking))
        for key in data.keys:
            name = key.key_alias or f"sk-...{key.last4}"
            results.append(await _told("key", str(name), _key(request, key, dry=data.dry_run)))
        results += await _days(request, data.days, dry=data.dry_run)
        return ImportAnswer(request_id=request.request_id, results=results)


async def _told(kind: str, name: str, taking: Awaitable[Imported]) -> Imported:
    """What became of one of them; what is wrong with it is no reason to leave the others."""
    try:
        done = await taking
    except XproxyError as fault:
        if fault.status >= 500:
            raise
        return Imported(kind=kind, name=name, outcome="refused", message=fault.message)
    return msgspec.structs.replace(done, kind=kind, name=name)


async def _holder(request: ApiRequest, body: ImportedHolder, *, dry: bool) -> Imported:
    """Set up a team, a user, a customer or a budget as it was."""
    store, application_id = request.services.store, request.user.application_id
    name = checked_label(body.name, "name") or ""
    found = await profiles.get(store, application_id, body.kind, name)
    if found is not None:
        same = found.details.get("imported") == ORIGIN
        return _done("unchanged" if same else "exists")
    now_ms = request.services.clock()
    created_ms = _since_ms(body.created_at, now_ms)
    asked = Profile(
        kind=body.kind,
        name=name,
        details={"created_by": who(request), "imported": ORIGIN},
        created_ms=created_ms,
        updated_ms=now_ms,
    )
    asked = holders.changed(request, asked, body)
    spent = openings.spent(body.spend, body.window_spend)
    if dry:
        _check_terms(body.kind, name, asked.terms, created_ms)
        return _done("imported", spent)
    agreed = await holders.agreed_on(request, asked)
    if body.kind != "budget":
        kind = cast(Holder, body.kind)
        limit_ids = await holders.limit_ids(request, agreed)
        whole, begin = await effective(request, agreed.terms), prefix(kind, name)
        wanted = openings.shares(begin, limit_ids, whole, spent, created_ms)
        await openings.book(request, begin, wanted)
    await holders.add(request, agreed, "name")
    return _done("imported", spent)


async def _key(request: ApiRequest, body: ImportedKey, *, dry: bool) -> Imported:
    """Have a key go on working, whose hash alone is known."""
    services, application_id = request.services, request.user.application_id
    if not LITELLM_HASH.fullmatch(body.token):
        raise InvalidRequest("its token is no SHA-256 of a key", field="token")
    hashed, now_ms = digest(services.pepper, body.token), services.clock()
    known = await keys.id_of(services.store, application_id, hashed, now_ms)
    if known is not None:
        return _done("unchanged", token=known)
    created_ms = _since_ms(body.created_at, now_ms)
    if not dry and body.team_id:  # else it may still come
        await virtual_keys.check_team(request, body.team_id)
    named = digest(services.pepper, f"imported\0{application_id}\0{body.token}")
    row = KeyRow(
        key_id=uuid7_text(created_ms, named),
        application_id=application_id,
        role=body.role,
        name="",
        last4=body.last4[-4:],
        details={"created_by": who(request), "imported": ORIGIN},
        created_ms=created_ms,
        expires_ms=None if body.expires_at is None else time_ms(body.expires_at, "expires_at"),
    )
    row = virtual_keys.drafted(request, row, body)
    spent = openings.spent(body.spend, body.window_spend)
    if dry:
        _check_terms("key", row.key_id, row.terms, created_ms)
        return _done("imported", spent, token=row.key_id)
    row = await virtual_keys.limited(request, row)
    whole, begin = await effective(request, row.terms), prefix("key", row.key_id)
    wanted = openings.shares(begin, row.limit_ids, whole, spent, created_ms)
    await openings.book(request, begin, wanted, row.key_id)
    try:
        await virtual_keys.create(request, row, hashed)
    except Conflict:
        await caps.drop(request, row.limit_ids)
        raise InvalidRequest("another application has this key", field="token") from None
    return _done("imported", spent, token=row.key_id)


def _check_terms(kind: str, name: str, terms: Terms, since_ms: int) -> None:
    """Whether limits could be made of terms. The budget that they name may not be here yet."""
    known = msgspec.structs.replace(terms, budget_id=None)
    caps_of("key" if kind == "budget" else cast(Holder, kind), name, known, since_ms)


async def _days(request: ApiRequest, days: Sequence[ImportedDay], *, dry: bool) -> list[Imported]:
    """Put down what was spent on days that are over; limits have it in their openings."""
    services, application_id = request.services, request.user.application_id
    tokens = {it.token for it in days if it.token}
    now_ms = services.clock()
    key_ids = {
        it: await keys.id_of(services.store, application_id, digest(services.pepper, it), now_ms)
        for it in tokens
    }
    results, rows = [], []
    for it in days:
        try:
            rows.append(_day_row(request, it, key_ids.get(it.token or "")))
        except InvalidRequest as fault:
            message = f"{it.date}: {fault.message}"
            results.append(Imported(kind="day", name=it.date, outcome="refused", message=message))
    new = 0 if dry else await usage.insert(services.store, [(row, ()) for row in rows])
    told = len(rows) if dry else new
    for at, row in enumerate(rows):
        outcome: Outcome = "imported" if at < told else "unchanged"
        results.append(_done(outcome, kind="day", name=row.properties["day"] or ""))
    return results


def _day_row(request: ApiRequest, day: ImportedDay, key_id: str | None) -> UsageRow:
    services, application_id = request.services, request.user.application_id
    at_ms = time_ms(day.date, "date") + NOON_MS
    cost = spent_pico(day.spend)
    read, written = day.cache_read_tokens, day.cache_write_tokens
    units = {
        "input_text": max(0, day.prompt_tokens - read - written),
        "cache_read": read,
        "cache_write_5m": written,
        "output_text": day.completion_tokens,
    }
    return UsageRow(
        application_id=application_id,
        request_id=uuid7_text(at_ms, digest(services.pepper, f"day\0{application_id}\0{day.id}")),
        entry=DAY_ENTRY,
        at_ms=at_ms,
        key_id=key_id,
        surface=openings.SURFACE,
        provider=day.provider or "",
        endpoint=day.endpoint or "",
        model=day.model,
        model_requested=day.model,
        units={name: count for name, count in units.items() if count > 0},
        lines={"imported": cost},
        input_pico=cost,
        cost_pico=cost,
        user_id=day.user_id,
        properties={"day": day.date, "requests": str(day.requests)},
    )


def _since_ms(text: str | None, now_ms: int) -> int:
    """Since when somebody is there, not after now."""
    return now_ms if text is None else min(now_ms, time_ms(text, "created_at"))


def _done(
    outcome: Outcome,
    spent: Mapping[str, int] | None = None,
    *,
    token: str | None = None,
    kind: str = "",
    name: str = "",
) -> Imported:
    opened = usd(spent[""]) if spent and spent[""] else None
    return Imported(kind=kind, name=name, outcome=outcome, token=token, opened=opened)
