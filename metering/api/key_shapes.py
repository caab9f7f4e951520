"""The bodies and answers of `/keys`, and what may stand in them. A key itself is in the answer that
made it, or gave it another secret, and nowhere else."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from metering.api.server import ApiRequest
from metering.api.text import checked_name, has_control, moment, span_s, time_ms
from metering.core.credentials import SLUG
from metering.core.rates import RATE_MAX, Kind
from metering.errors import InvalidRequest
from metering.store import limits
from metering.store.keys import KeyRow

PERMISSIONS = (
    *("own_credential", "price_as", "ingest", "unmetered", "unbounded", "base_uri"),
    "manage_credentials",
)
"""What a key may be allowed beyond its role. Of credentials a key may use those of its application
and bring its own, unless its permissions name any (`own_credential`, `credential:<slug>`,
`credential:*`): then only what they name."""
_PERMISSION = re.compile("|".join((*PERMISSIONS, rf"credential:({SLUG.pattern}|\*)")))
_RATES: dict[str, Kind] = {
    "requests_per_minute": "requests",
    "tokens_per_minute": "tokens",
    "parallel": "parallel",
}
NO_RATES: Mapping[Kind, int] = MappingProxyType({})
LIMIT_IDS_MAX = 32
MODELS_MAX = 1_000
STARS_MAX = 4
ALIASES_MAX = 100
TAGS_MAX = 64
GRACE_DAYS_MAX = 30
GRACE = "24h"
DAY_MS = 86_400_000


class RateLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How much a key may at most in a minute, and at once; null takes a limit away."""

    requests_per_minute: int | UnsetType | None = UNSET
    tokens_per_minute: int | UnsetType | None = UNSET
    parallel: int | UnsetType | None = UNSET
    """Calls at once."""


class CreateKey(msgspec.Struct, kw_only=True):
    """The body of a new key."""

    name: str
    role: str = "app"
    application_id: str | None = None
    expires_at: str | int | None = None
    permissions: list[str] | None = None
    limit_ids: list[str] | None = None
    user_id: str | None = None
    team: str | None = None
    customer: str | None = None
    rate_limits: RateLimits | None = None
    models: list[str] | None = None
    aliases: dict[str, str] | None = None
    tags: list[str] | None = None


class UpdateKey(msgspec.Struct, kw_only=True):
    """The body of a change: what it does not name stays; null takes away."""

    name: str | UnsetType = UNSET
    expires_at: str | int | UnsetType | None = UNSET
    permissions: list[str] | UnsetType | None = UNSET
    limit_ids: list[str] | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    customer: str | UnsetType | None = UNSET
    blocked: bool | UnsetType = UNSET
    rate_limits: RateLimits | UnsetType | None = UNSET
    """Those that it does not name stay."""

    models: list[str] | UnsetType | None = UNSET
    aliases: dict[str, str] | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET


class RotateKey(msgspec.Struct, kw_only=True):
    """The body of a rotation: how long the secret that the key has goes on working."""

    grace_period: str | int = GRACE


class KeyObject(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A key; `key` itself is in the answer that made it or rotated it, and nowhere else."""

    request_id: str
    key_id: str
    key: str | None = None
    application_id: str | None = None
    role: Literal["admin", "app", "read"]
    name: str
    prefix: str
    last4: str
    created_at: datetime
    blocked: bool
    permissions: tuple[str, ...]
    limit_ids: tuple[str, ...]
    user_id: str | None = None
    team: str | None = None
    customer: str | None = None
    rate_limits: RateLimits | None = None
    models: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    expires_at: datetime | None = None
    previous_ends_at: datetime | None = None
    """While the secret before the last rotation still works."""
    last_used_at: datetime | None = None
    last_used_from: str | None = None


def key_object(request: ApiRequest, row: KeyRow, key: str | None = None) -> KeyObject:
    """A key as callers see it."""
    previous_ms = row.previous_ends_ms
    if previous_ms is not None and previous_ms <= request.services.clock():
        previous_ms = None
    return KeyObject(
        request_id=request.request_id,
        key_id=row.key_id,
        key=key,
        application_id=row.application_id,
        role=row.role,
        name=row.name,
        prefix=f"sk-xproxy-{row.role}" if row.last4 else "",
        last4=row.last4,
        created_at=moment(row.created_ms),
        blocked=row.blocked,
        permissions=row.permissions,
        limit_ids=row.limit_ids,
        user_id=row.user_id,
        team=row.team,
        customer=row.customer,
        rate_limits=_rate_limits(row.rate_limits),
        models=row.models,
        aliases=row.aliases,
        tags=row.tags,
        expires_at=_moment(row.expires_ms),
        previous_ends_at=_moment(previous_ms),
        last_used_at=_moment(row.last_used_ms),
        last_used_from=row.last_used_from,
    )


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else moment(at_ms)


async def changes(request: ApiRequest, data: UpdateKey, key: KeyRow) -> dict[str, object]:
    """What a body changes of a key, checked, in the store's words."""
    named = {name: value for name, value in _named(data) if value is not UNSET}
    changed: dict[str, Any] = {}
    for name, value in named.items():
        match name:
            case "name":
                changed[name] = checked_name(value, name)
            case "permissions":
                changed[name] = checked_permissions(value or [])
            case "limit_ids":
                changed[name] = await checked_limit_ids(request, key.application_id, value or [])
            case "expires_at":
                changed["expires_ms"] = parse_expiry(value, request.services.clock())
            case "blocked":
                changed[name] = value
            case "rate_limits":
                changed[name] = checked_rates(value, key.rate_limits)
            case "models" | "aliases" | "tags":
                changed[name] = CHECKED[name](value)
            case _:
                changed[name] = checked_label(value, name)
    return changed


def _named(data: UpdateKey) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(data, name)) for name in data.__struct_fields__)


def parse_role(role: str) -> Literal["admin", "app", "read"]:
    """A role in any case."""
    match role.lower():
        case "admin" | "app" | "read" as known:
            return known
    raise InvalidRequest("role must be admin, app or read", field="role")


def parse_expiry(text: str | int | None, now_ms: int) -> int | None:
    """When a key ends, in milliseconds; it must lie ahead."""
    if text is None:
        return None
    expires_ms = time_ms(str(text), "expires_at")
    if expires_ms <= now_ms:
        raise InvalidRequest("expires_at is in the past", field="expires_at")
    return expires_ms


def parse_grace(text: str | int, now_ms: int) -> int | None:
    """When the secret ends that another takes the place of, in milliseconds; None: at once."""
    grace_ms = span_s(str(text), "grace_period") * 1000
    if grace_ms > GRACE_DAYS_MAX * DAY_MS:
        raise InvalidRequest(
            f"grace_period is longer than {GRACE_DAYS_MAX} days", field="grace_period"
        )
    return now_ms + grace_ms if grace_ms else None


def checked_permissions(permissions: list[str]) -> tuple[str, ...]:
    """Permissions that exist, each once."""
    for permission in permissions:
        if not _PERMISSION.fullmatch(permission):
            raise InvalidRequest(
                f"permissions: {permission!r} does not exist; there are "
                f"{', '.join(PERMISSIONS)}, credential:<slug> and credential:*",
                field="permissions",
            )
    return tuple(dict.fromkeys(permissions))


def checked_rates(
    asked: RateLimits | None, before: Mapping[Kind, int] = NO_RATES
) -> dict[Kind, int]:
    """Rate limits by kind: what is asked for, and of those before what it does not name."""
    if asked is None:
        return {}
    found = dict(before)
    for name, kind in _RATES.items():
        maximum = getattr(asked, name)
        if maximum is None:
            found.pop(kind, None)
        elif maximum is not UNSET:
            if not 0 <= maximum <= RATE_MAX:
                field = f"rate_limits.{name}"
                raise InvalidRequest(
                    f"{field} must be from 0 to {RATE_MAX}, or null for none", field=field
                )
            found[kind] = maximum
    return found


def checked_models(models: Sequence[str] | None) -> tuple[str, ...]:
    """A list of models, each once."""
    found = tuple(dict.fromkeys(models or ()))
    if len(found) > MODELS_MAX:
        raise InvalidRequest(f"models has more than {MODELS_MAX} names", field="models")
    for it in found:
        if it.count("*") > STARS_MAX:
            raise InvalidRequest(f"models: {it!r} has more than {STARS_MAX} stars", field="models")
    return tuple(checked_name(it, "models") for it in found)


def checked_aliases(aliases: Mapping[str, str] | None) -> dict[str, str]:
    """Models by the names that calls may use for them."""
    found = dict(aliases or {})
    if len(found) > ALIASES_MAX:
        raise InvalidRequest(f"aliases has more than {ALIASES_MAX} names", field="aliases")
    return {checked_name(one, "aliases"): checked_name(it, "aliases") for one, it in found.items()}


def checked_tags(tags: Sequence[str] | None) -> tuple[str, ...]:
    """Tags, each once."""
    found = tuple(dict.fromkeys(tags or ()))
    if len(found) > TAGS_MAX:
        raise InvalidRequest(f"tags has more than {TAGS_MAX} tags", field="tags")
    return tuple(checked_name(it, "tags") for it in found)


CHECKED: dict[str, Callable[[Any], Any]] = {
    "models": checked_models,
    "aliases": checked_aliases,
    "tags": checked_tags,
}


def _rate_limits(found: Mapping[Kind, int]) -> RateLimits | None:
    named = {name: found[kind] for name, kind in _RATES.items() if kind in found}
    return RateLimits(**named) if named else None


def checked_label(text: str | None, field: str) -> str | None:
    """The name of a user, a team or a customer, as a header could say it; None for none."""
    if text is None:
        return None
    if text != text.strip():
        raise InvalidRequest(f"{field} begins or ends with a space", field=field)
    return checked_name(text, field)


async def checked_limit_ids(
    request: ApiRequest, application_id: str | None, limit_ids: list[str]
) -> tuple[str, ...]:
    """Limits of the application, each once."""
    wanted = tuple(dict.fromkeys(limit_ids))
    if not wanted:
        return ()
    if len(wanted) > LIMIT_IDS_MAX:
        raise InvalidRequest(f"limit_ids has more than {LIMIT_IDS_MAX} ids", field="limit_ids")
    owner = application_id or request.user.application_id
    known = [limit_id for limit_id in wanted if not has_control(limit_id)]
    found = await limits.get_many(request.services.store, owner, known)
    missing = [limit_id for limit_id in wanted if limit_id not in found]
    if missing:
        raise InvalidRequest(
            f"limit_ids: {', '.join(map(repr, missing))} not found in application {owner}; "
            "create the limit first",
            code="invalid_limit_ids",
            field="limit_ids",
        )
    return wanted
