"""Virtual keys: made, found, changed and deleted with the limits that their terms become.

What binds a key is there before the key is, and what no longer does is deleted after it lets go: at
no moment may a key spend more than it should. Each step may be done again after a fault.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from metering.api import caps
from metering.api.key_shapes import LIMIT_IDS_MAX
from metering.api.litellm.holdings import effective
from metering.api.litellm.key_shapes import AskedKey, KeyView, changes, detailed, view
from metering.api.litellm.shapes import AskedTerms, merged, said, who
from metering.api.server import ApiRequest
from metering.core.ids import uuid7
from metering.core.keys import digest, digest_of, looks_ours, make_key, may_be_litellms
from metering.core.terms import Terms, part_of, prefix
from metering.core.terms import caps as caps_of
from metering.directory import key_topic
from metering.errors import InvalidRequest, NotFound
from metering.store import keys, profiles, rollups
from metering.store.keys import KeyRow, Role, Wanted

TERMS = frozenset(AskedTerms.__struct_fields__)


async def generate(
    request: ApiRequest, body: AskedKey, *, role: Role = "app", secret: str | None = None
) -> tuple[KeyRow, str]:
    """Make a key; it and its secret."""
    services, now_ms = request.services, request.services.clock()
    await check_names(request, body, None)
    secret = secret or make_key(role, services.random(32))
    row = KeyRow(
        key_id=str(uuid7(now_ms, services.random(10))),
        application_id=request.user.application_id,
        role=role,
        name="",
        last4=secret[-4:],
        details={"created_by": who(request)},
        created_ms=now_ms,
    )
    row = await limited(request, drafted(request, row, body))
    return await create(request, row, digest(services.pepper, secret)), secret


def drafted(request: ApiRequest, row: KeyRow, body: AskedKey) -> KeyRow:
    """A key that is to be, as a body has it, checked; it has no limits yet."""
    now_ms = request.services.clock()
    details = detailed(row.details, body, who(request), now_ms)
    terms = merged(row.terms, body)
    return replace(row, **(changes(body, now_ms) | {"details": details, "terms": terms}))


async def limited(request: ApiRequest, row: KeyRow) -> KeyRow:
    """A key that is to be, its limits made; they may have been made before."""
    whole = await effective(request, row.terms)
    wanted = caps_of("key", row.key_id, whole, row.created_ms)
    limit_ids = _checked_limit_ids([it.limit_id for it in wanted])
    await caps.put(request, wanted)
    return replace(row, limit_ids=limit_ids, rate_limits=whole.rates)


async def create(request: ApiRequest, row: KeyRow, hashed: bytes) -> KeyRow:
    """Have a key be there, at once on every worker."""
    created = await keys.create(request.services.store, row, hashed)
    await request.services.directory.changed(key_topic(hashed))
    return created


async def update(request: ApiRequest, row: KeyRow, body: AskedKey) -> KeyRow:
    """Change a key; at once on every worker."""
    now_ms = request.services.clock()
    changed = changes(body, now_ms)
    await check_names(request, body, row)
    changed["details"] = detailed(row.details, body, who(request), now_ms)
    if TERMS.isdisjoint(said(body)):
        return await _written(request, row, changed)
    return await agree(request, row, merged(row.terms, body), changed)


async def agree(
    request: ApiRequest, row: KeyRow, terms: Terms, changed: Mapping[str, Any]
) -> KeyRow:
    """Have a key's limits and rates be as terms say, those of their budget in them."""
    whole = await effective(request, terms)
    wanted = caps_of("key", row.key_id, whole, row.created_ms)
    holder = prefix("key", row.key_id)
    others = [it for it in row.limit_ids if part_of(it, holder) is None]
    limit_ids = _checked_limit_ids([*others, *(it.limit_id for it in wanted)])
    await caps.put(request, wanted)
    changed = {
        **changed,
        "terms": terms,
        "rate_limits": whole.rates,
        "limit_ids": limit_ids,
    }
    written = await _written(request, row, changed)
    await caps.drop(request, set(row.limit_ids) - set(limit_ids))
    return written


async def reset_spend(request: ApiRequest, row: KeyRow) -> None:
    """Have a key's budgets count from zero."""
    holder = prefix("key", row.key_id)
    await caps.reset(request, [it for it in row.limit_ids if part_of(it, holder)])


async def find(request: ApiRequest, named: str, field: str = "key") -> KeyRow:
    """A key of the application by its secret, or by its id, which is its token."""
    store, application_id = request.services.store, request.user.application_id
    key_id: str | None = named
    if looks_ours(named) or may_be_litellms(named):
        hashed = digest_of(request.services.pepper, named)
        key_id = await keys.id_of(store, application_id, hashed, request.services.clock())
    found = None if key_id is None else await keys.get(store, key_id, application_id)
    if found is None:
        raise not_found(field)
    return found


async def find_by_alias(request: ApiRequest, alias: str, field: str) -> KeyRow:
    """The key of the application that has this alias, if one alone has."""
    found = await keys.some(
        request.services.store, request.user.application_id, Wanted(name=alias), most=2
    )
    if not alias or not found:
        raise not_found(field)
    if len(found) > 1:
        raise InvalidRequest(f"{field}: several keys have this alias", field=field)
    return found[0]


async def delete(request: ApiRequest, rows: Iterable[KeyRow]) -> None:
    """Delete keys, and then the limits that were theirs alone."""
    store, application_id = request.services.store, request.user.application_id
    for row in rows:
        hashed = await keys.delete(store, row.key_id, application_id)
        await request.services.directory.changed(*map(key_topic, hashed or ()))
        holder = prefix("key", row.key_id)
        await caps.drop(request, [it for it in row.limit_ids if part_of(it, holder)])


async def views(request: ApiRequest, rows: Sequence[KeyRow]) -> list[KeyView]:
    """Keys as answers show them."""
    store, application_id = request.services.store, request.user.application_id
    found = await caps.counted(request, {it for row in rows for it in row.limit_ids})
    spent = await rollups.spend(store, application_id, "key", [row.key_id for row in rows])
    names = {row.terms.budget_id for row in rows} - {None}
    budgets: dict[str | None, Terms] = {}
    if names:
        asked = [it for it in names if it is not None]
        some = await profiles.get_many(store, application_id, "budget", asked)
        budgets = {it.name: it.terms for it in some}
    return [
        view(request, row, found, spent.get(row.key_id, 0), budgets.get(row.terms.budget_id))
        for row in rows
    ]


async def one_view(request: ApiRequest, row: KeyRow) -> KeyView:
    """One key as answers show it."""
    return (await views(request, [row]))[0]


def not_found(field: str = "key") -> NotFound:
    """What is answered for another application's keys, too."""
    return NotFound("Key not found in database", code="key_not_found", field=field)


async def _written(request: ApiRequest, row: KeyRow, changed: Mapping[str, Any]) -> KeyRow:
    services = request.services
    done = await keys.update(services.store, row.key_id, changed, request.user.application_id)
    if done is None:
        raise not_found()
    await services.directory.changed(*map(key_topic, done.digests))
    return done.key


async def check_names(request: ApiRequest, body: AskedKey, row: KeyRow | None) -> None:
    """Whether the alias is free, and the team has been set up."""
    store, application_id = request.services.store, request.user.application_id
    alias, team = body.key_alias or "", body.team_id or ""
    if alias not in ("", None if row is None else row.name):
        taken = await keys.count(store, application_id, Wanted(name=alias))
        if taken:
            raise InvalidRequest(
                f"Key with alias '{alias}' already exists. Unique key aliases across all keys are "
                "required.",
                field="key_alias",
            )
    if team not in ("", None if row is None else row.team):
        await check_team(request, team)


async def check_team(request: ApiRequest, team: str) -> None:
    """Whether a team has been set up."""
    store, application_id = request.services.store, request.user.application_id
    if await profiles.get(store, application_id, "team", team) is None:
        raise NotFound(
            f"Team doesn't exist in db. Team={team}. Create team via `/team/new` call.",
            field="team_id",
        )


def _checked_limit_ids(limit_ids: Iterable[str]) -> tuple[str, ...]:
    found = tuple(limit_ids)
    if len(found) > LIMIT_IDS_MAX:
        raise InvalidRequest(
            f"these are more than {LIMIT_IDS_MAX} limits for one key", field="budget_limits"
        )
    return found
