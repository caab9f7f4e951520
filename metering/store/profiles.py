"""Teams, users and customers that were set up, and budgets: what is set of them, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from metering.core.rates import Kind as RateKind
from metering.core.terms import NO_TERMS, Terms
from metering.store import Record, Store, as_uuid
from metering.store.keys import read_details, read_terms, written

Kind = Literal["budget", "team", "user", "customer"]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is set of somebody. A budget is what others' terms are taken from."""

    kind: Kind
    name: str
    blocked: bool = False
    models: tuple[str, ...] = ()
    rate_limits: dict[RateKind, int] = {}
    terms: Terms = NO_TERMS
    details: dict[str, Any] = {}
    created_ms: int
    updated_ms: int


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What calls for somebody are held to beside the limits that are attached to him."""

    blocked: bool = False
    models: tuple[str, ...] = ()
    rate_limits: dict[RateKind, int] = {}


async def create(store: Store, application_id: str, profile: Profile) -> Profile | None:
    """Set somebody up. None: there is one of this kind and name."""
    arguments = (as_uuid(application_id), profile.kind, profile.name, *_values(profile))
    record = await store.row("create_profile", *arguments, profile.created_ms)
    return None if record is None else _profile(record)


async def get(store: Store, application_id: str, kind: Kind, name: str) -> Profile | None:
    """One by his name."""
    found = await get_many(store, application_id, kind, [name])
    return found[0] if found else None


async def get_many(
    store: Store, application_id: str, kind: Kind, names: Sequence[str]
) -> list[Profile]:
    """Those that exist among these names."""
    records = await store.rows("read_profiles", as_uuid(application_id), kind, names)
    return [_profile(record) for record in records]


async def some(
    store: Store,
    application_id: str,
    kind: Kind,
    *,
    budget_id: str | None = None,
    skip: int = 0,
    most: int = 1_000,
) -> list[Profile]:
    """Those of a kind, newest first, after so many; of one budget if asked."""
    arguments = (as_uuid(application_id), kind, budget_id, skip, most)
    return [_profile(record) for record in await store.rows("list_profiles", *arguments)]


async def count(store: Store, application_id: str, kind: Kind) -> int:
    """How many there are of a kind."""
    found: int = await store.value("count_profiles", as_uuid(application_id), kind)
    return found


async def update(store: Store, application_id: str, profile: Profile) -> Profile | None:
    """Set all of somebody anew. None: there is no such one."""
    arguments = (as_uuid(application_id), profile.kind, profile.name, *_values(profile))
    record = await store.row("update_profile", *arguments, profile.updated_ms)
    return None if record is None else _profile(record)


async def delete(store: Store, application_id: str, kind: Kind, name: str) -> bool:
    """Remove what is set of somebody. False: nothing was."""
    return await store.value("delete_profile", as_uuid(application_id), kind, name) is not None


async def rules(store: Store, application_id: str) -> dict[str, dict[str, Rules]]:
    """By kind and name, who in an application is held to anything."""
    found: dict[str, dict[str, Rules]] = {}
    for record in await store.rows("read_profile_rules", as_uuid(application_id)):
        found.setdefault(record["kind"], {})[record["name"]] = Rules(
            blocked=record["blocked"],
            models=tuple(record["models"]),
            rate_limits=msgspec.json.decode(record["rate_limits"]),
        )
    return found


def _values(profile: Profile) -> tuple[object, ...]:
    return (
        profile.blocked,
        profile.models,
        written(profile.rate_limits),
        written(profile.terms),
        written(profile.details),
    )


def _profile(record: Record) -> Profile:
    values = dict(record)
    values["models"] = tuple(values["models"])
    values["rate_limits"] = msgspec.json.decode(values["rate_limits"])
    values["terms"] = read_terms(values["terms"])
    values["details"] = read_details(values["details"])
    return Profile(**values)
