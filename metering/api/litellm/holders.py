"""Teams, users and customers: set up, found, changed and deleted with the limits and rates that
their terms become. A budget has none of its own: its terms are taken by others, who follow them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from msgspec.structs import replace

from metering.api import caps
from metering.api.attachments import ATTACHED_MAX
from metering.api.key_shapes import LIMIT_IDS_MAX, checked_label, checked_models
from metering.api.litellm import virtual_keys
from metering.api.litellm.holder_shapes import AskedHolder, members
from metering.api.litellm.holdings import effective
from metering.api.litellm.key_shapes import detailed
from metering.api.litellm.shapes import merged, said, who
from metering.api.server import ApiRequest
from metering.core.ids import uuid7
from metering.core.terms import NO_TERMS, Holder, Terms, part_of, prefix
from metering.core.terms import caps as caps_of
from metering.directory import attached_topic, profiles_topic
from metering.errors import Conflict, InvalidRequest, NotFound
from metering.store import attachments, keys, profiles
from metering.store.attachments import Attachment
from metering.store.keys import Wanted
from metering.store.profiles import Kind, Profile

HOLDERS: tuple[Kind, ...] = ("team", "user", "customer")
MANY = 500
"""So many dependents of a budget are brought up to date at a time."""


async def create(
    request: ApiRequest, kind: Kind, name: str | None, body: AskedHolder, field: str
) -> Profile:
    """Set somebody up; without a name he gets one. InvalidRequest if there is one of it."""
    services, now_ms = request.services, request.services.clock()
    label = checked_label(name or str(uuid7(now_ms, services.random(10))), field) or ""
    if await profiles.get(services.store, request.user.application_id, kind, label) is not None:
        raise _taken(kind, label, field)
    by = who(request)
    asked = Profile(
        kind=kind,
        name=label,
        details={"created_by": by},
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    agreed = await agreed_on(request, changed(request, asked, body))
    return await add(request, agreed, field)


async def add(request: ApiRequest, profile: Profile, field: str) -> Profile:
    """Have somebody be set up, at once on every worker; his limits are there."""
    store, application_id = request.services.store, request.user.application_id
    created = await profiles.create(store, application_id, profile)
    if created is None:
        raise _taken(profile.kind, profile.name, field)
    await _tell(request)
    return created


async def update(
    request: ApiRequest, profile: Profile, body: AskedHolder, *, anew: bool = False
) -> Profile:
    """Change what is set of somebody; `anew`: his terms are those of the body, and no others."""
    before = replace(profile, terms=NO_TERMS) if anew else profile
    return await write(request, changed(request, before, body))


async def write(request: ApiRequest, profile: Profile) -> Profile:
    """Have what is set of somebody be this, at once on every worker."""
    services, application_id = request.services, request.user.application_id
    agreed = await agreed_on(request, profile)
    written = await profiles.update(services.store, application_id, agreed)
    if written is None:
        raise not_found(profile.kind, profile.name, "")
    await _tell(request)
    if profile.kind == "budget":
        await _follow(request, profile.name)
    else:
        await _let_go(request, written)
    return written


async def get(request: ApiRequest, kind: Kind, name: str, field: str) -> Profile:
    """Somebody by his name, or NotFound."""
    found = await profiles.get(request.services.store, request.user.application_id, kind, name)
    if found is None:
        raise not_found(kind, name, field)
    return found


async def get_all(
    request: ApiRequest, kind: Kind, names: Sequence[str], field: str
) -> list[Profile]:
    """Several by their names, or NotFound for the first that is not there."""
    return [await get(request, kind, name, field) for name in dict.fromkeys(names)]


async def delete(request: ApiRequest, found: Iterable[Profile]) -> None:
    """Delete teams or users with their keys, or customers; then what bound them.

    Keys go first: none may outlive the budget it shared.
    """
    store, application_id = request.services.store, request.user.application_id
    for profile in found:
        if profile.kind in ("team", "user"):
            whose = {"team" if profile.kind == "team" else "user_id": profile.name}
            while rows := await keys.some(store, application_id, Wanted(**whose), most=MANY):
                await virtual_keys.delete(request, rows)
        await profiles.delete(store, application_id, profile.kind, profile.name)
        await _tell(request)
        if profile.kind != "budget":
            bound = await limit_ids(request, profile)
            await caps.drop(request, bound)


async def used(request: ApiRequest, budget_id: str) -> int:
    """How many take their terms from a budget."""
    store, application_id = request.services.store, request.user.application_id
    found = await keys.count(store, application_id, Wanted(budget_id=budget_id))
    for kind in HOLDERS:
        some = await profiles.some(store, application_id, kind, budget_id=budget_id, most=MANY)
        found += len(some)
    return found


async def limit_ids(request: ApiRequest, profile: Profile) -> tuple[str, ...]:
    """The limits that a holder's terms have become."""
    store, application_id = request.services.store, request.user.application_id
    kind = cast(Holder, profile.kind)
    found = await attachments.page(
        store, application_id, kind=cast(attachments.Kind, kind), name=profile.name, page_size=1000
    )
    holder = prefix(kind, profile.name)
    return tuple(it.limit_id for it in found.items if part_of(it.limit_id, holder))


async def shown(request: ApiRequest, some: Sequence[Profile]) -> list[dict[str, Any]]:
    """The members that answers show of holders, in their order."""
    store, application_id = request.services.store, request.user.application_id
    attached = await attachments.of_application(store, application_id)
    bound = [attached.get(cast(attachments.Kind, it.kind), {}).get(it.name, []) for it in some]
    found = await caps.counted(request, {it for its in bound for it in its})
    of_budgets = await terms_of_budgets(request, some)
    return [
        members(profile, its, found, of_budgets) for profile, its in zip(some, bound, strict=True)
    ]


async def terms_of_budgets(request: ApiRequest, found: Iterable[Profile]) -> Mapping[str, Terms]:
    """The terms of the budgets that some name, by id."""
    names = list({it.terms.budget_id for it in found if it.terms.budget_id is not None})
    if not names:
        return {}
    store, application_id = request.services.store, request.user.application_id
    budgets = await profiles.get_many(store, application_id, "budget", names)
    return {it.name: it.terms for it in budgets}


def not_found(kind: Kind, name: str, field: str) -> NotFound:
    """What is answered for another application's, too."""
    return NotFound(f"{kind} {name!r} not found", code=f"{kind}_not_found", field=field or None)


def _taken(kind: Kind, name: str, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{kind} {name!r} already exists. Please use a different {field}.", field=field
    )


def changed(request: ApiRequest, profile: Profile, body: AskedHolder) -> Profile:
    """What is set of somebody as a body changes it, checked."""
    now_ms, asked = request.services.clock(), said(body)
    details = detailed(profile.details, body, who(request), now_ms)
    values: dict[str, Any] = {"details": details | body.details(), "updated_ms": now_ms}
    if "models" in asked:
        values["models"] = checked_models(asked["models"])
    if "blocked" in asked:
        values["blocked"] = bool(asked["blocked"])
    return replace(profile, terms=merged(profile.terms, body), **values)


async def agreed_on(request: ApiRequest, profile: Profile) -> Profile:
    """The same with its rates; its limits are made and attached."""
    if profile.kind == "budget":
        caps_of("key", "", profile.terms, profile.created_ms)  # whether they can be taken
        return profile
    whole = await effective(request, profile.terms)
    wanted = caps_of(profile.kind, profile.name, whole, profile.created_ms)
    kind = cast(attachments.Kind, profile.kind)
    store, application_id = request.services.store, request.user.application_id
    in_all, its = await attachments.count(store, application_id, kind, profile.name)
    if its + len(wanted) > 2 * LIMIT_IDS_MAX or in_all + len(wanted) > ATTACHED_MAX:
        raise InvalidRequest("too many limits are attached: detach some", field="budget_limits")
    for limit_id in await caps.put(request, wanted):
        one = Attachment(
            kind=kind,
            name=profile.name,
            limit_id=limit_id,
            attached_ms=request.services.clock(),
        )
        if not await attachments.attach(store, application_id, one):
            raise Conflict(f"limit {limit_id!r} was deleted just now; try again")
    await request.services.directory.changed(attached_topic(application_id))
    return replace(profile, rate_limits=whole.rates)


async def _let_go(request: ApiRequest, profile: Profile) -> None:
    """Delete the limits of a holder that its terms no longer have."""
    whole = await effective(request, profile.terms)
    wanted = caps_of(cast(Holder, profile.kind), profile.name, whole, profile.created_ms)
    bound = await limit_ids(request, profile)
    await caps.drop(request, set(bound) - {it.limit_id for it in wanted})


async def _follow(request: ApiRequest, budget_id: str) -> None:
    """Have all who take their terms from a budget take them as they are now."""
    store, application_id = request.services.store, request.user.application_id
    skip = 0
    while rows := await keys.some(
        store, application_id, Wanted(budget_id=budget_id), skip=skip, most=MANY
    ):
        for row in rows:
            await virtual_keys.agree(request, row, row.terms, {})
        skip += MANY
    for kind in HOLDERS:
        skip = 0
        while found := await profiles.some(
            store, application_id, kind, budget_id=budget_id, skip=skip, most=MANY
        ):
            for profile in found:
                await write(request, profile)
            skip += MANY


async def _tell(request: ApiRequest) -> None:
    await request.services.directory.changed(profiles_topic(request.user.application_id))
