"""A virtual key on LiteLLM's wire: bodies, and the key as answers show it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from metering.api.caps import Counted
from metering.api.key_shapes import CHECKED, DAY_MS, GRACE_DAYS_MAX, checked_label
from metering.api.litellm.holdings import budgets
from metering.api.litellm.shapes import (
    AskedTerms,
    metadata_text,
    read_metadata,
    said,
    shown_moment,
)
from metering.api.server import ApiRequest
from metering.api.text import checked_name
from metering.core.durations import ends_ms
from metering.core.money import usd
from metering.core.terms import Terms, prefix, window_id
from metering.errors import InvalidRequest
from metering.store.keys import KeyRow


class AskedKey(AskedTerms, kw_only=True):
    """What may be asked for of a key."""

    key_alias: str | UnsetType | None = UNSET
    duration: str | UnsetType | None = UNSET
    models: list[str] | UnsetType | None = UNSET
    aliases: dict[str, str] | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    team_id: str | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET


class GenerateKey(AskedKey, kw_only=True):
    """The body of a new key."""

    key: str | None = None
    key_type: str | None = None


class UpdateKey(AskedKey, kw_only=True):
    """The body of a change: `key`, or else `key_alias`, says of which."""

    key: str | None = None
    spend: Decimal | None = None


class RegenerateKey(AskedKey, kw_only=True):
    """The body of a rotation, which may change the key too."""

    key: str | None = None
    new_key: str | None = None
    grace_period: str | None = None


class OneKey(msgspec.Struct, kw_only=True):
    """A body that names a key."""

    key: str


class SomeKeys(msgspec.Struct, kw_only=True):
    """A body that names keys, or their aliases."""

    keys: list[str] | None = None
    key_aliases: list[str] | None = None


class ShownWindow(msgspec.Struct, kw_only=True):
    """One of several budgets at once."""

    budget_duration: str
    max_budget: Decimal
    reset_at: datetime | None = None


class BudgetTable(msgspec.Struct, kw_only=True):
    """The terms of a budget."""

    budget_id: str | None = None
    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_duration: str | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    max_parallel_requests: int | None = None


class KeyView(msgspec.Struct, kw_only=True):
    """A key; `token` is its id here, which a rotation leaves as it is."""

    token: str
    token_id: str
    key_name: str
    key_alias: str | None
    status: Literal["active", "expired", "revoked"]
    spend: Decimal
    max_budget: Decimal | None
    soft_budget: Decimal | None
    budget_duration: str | None
    budget_reset_at: datetime | None
    budget_limits: list[ShownWindow] | None
    budget_limits_usage: dict[str, dict[str, Decimal]] | None
    budget_id: str | None
    litellm_budget_table: BudgetTable | None
    models: list[str]
    aliases: dict[str, str]
    tags: list[str]
    metadata: dict[str, Any]
    user_id: str | None
    team_id: str | None
    tpm_limit: int | None
    rpm_limit: int | None
    max_parallel_requests: int | None
    expires: datetime | None
    blocked: bool
    created_at: datetime | None
    created_by: str | None
    updated_at: datetime | None
    updated_by: str | None
    last_active: datetime | None
    config: dict[str, Any] = {}
    permissions: dict[str, Any] = {}
    model_max_budget: dict[str, Any] = {}


class NamedKey(KeyView, kw_only=True):
    """A key with its secret, or with what the request named it by."""

    key: str | None
    xproxy_ignored: list[str] = []
    """What the body had that is known and not done."""


class KeyInfo(msgspec.Struct, kw_only=True):
    """The answer about one key."""

    key: str | None
    info: KeyView


class KeyList(msgspec.Struct, kw_only=True):
    """A page of keys: tokens, or the keys themselves."""

    keys: list[str | KeyView]
    total_count: int
    current_page: int
    total_pages: int


class DeletedKeys(msgspec.Struct, kw_only=True):
    """The keys that are no more, as the request named them."""

    deleted_keys: list[str]


def changes(body: AskedKey, now_ms: int) -> dict[str, Any]:
    """What a body changes of a key beside its terms, checked, in the store's words."""
    changed: dict[str, Any] = {}
    for name, value in said(body).items():
        match name:
            case "key_alias":
                changed["name"] = checked_name(value, name) if value else ""
            case "duration":
                changed["expires_ms"] = (
                    None if value in (None, "-1") else ends_ms(value, now_ms, name)
                )
            case "models" | "aliases" | "tags":
                changed[name] = CHECKED[name](value)
            case "user_id":
                changed[name] = checked_label(value or None, name)
            case "team_id":
                changed["team"] = checked_label(value or None, name)
            case "blocked":
                changed[name] = bool(value)
    return changed


def detailed(
    before: Mapping[str, Any], body: msgspec.Struct, who: str, now_ms: int
) -> dict[str, Any]:
    """The details of what is changed by somebody now."""
    changed = said(body)
    details = {**before, "updated_by": who, "updated_ms": now_ms}
    if "metadata" in changed:
        details["metadata"] = metadata_text(changed["metadata"])
    return details


def grace_ends_ms(said: str | None, now_ms: int) -> int | None:
    """When the secret ends that another takes the place of; None: at once."""
    if not said or said.startswith("0"):
        return None
    end_ms = ends_ms(said, now_ms, "grace_period")
    if end_ms - now_ms > GRACE_DAYS_MAX * DAY_MS:
        raise InvalidRequest(
            f"grace_period is longer than {GRACE_DAYS_MAX} days", field="grace_period"
        )
    return end_ms


def view(
    request: ApiRequest, row: KeyRow, found: Counted, spend_pico: int, budget: Terms | None
) -> KeyView:
    """A key as answers show it: `found` are its limits, `spend_pico` what all its calls cost, for
    one that no limit counts, `budget` the terms of its `budget_id`."""
    return KeyView(**_members(request, row, found, spend_pico, budget))


def named(its: KeyView, key: str | None, ignored: list[str]) -> NamedKey:
    """The same with its secret, or what the request named it by."""
    return NamedKey(**msgspec.structs.asdict(its), key=key, xproxy_ignored=ignored)


def _members(
    request: ApiRequest, row: KeyRow, found: Counted, spend_pico: int, budget: Terms | None
) -> dict[str, Any]:
    holder = prefix("key", row.key_id)
    money, details = budgets(holder, row.limit_ids, found), row.details
    shown = windows(row.terms, holder, row.created_ms, row.limit_ids, found)
    terms = row.terms.over(budget)
    return {
        "token": row.key_id,
        "token_id": row.key_id,
        "key_name": f"sk-...{row.last4}",
        "key_alias": row.name or None,
        "status": _status(row, request.services.clock()),
        "spend": usd(spend_pico) if money.spend is None else money.spend,
        "max_budget": money.max_budget,
        "soft_budget": money.soft_budget,
        "budget_duration": terms.budget_duration,
        "budget_reset_at": money.budget_reset_at,
        "budget_limits": [it for it, _ in shown] or None,
        "budget_limits_usage": {it.budget_duration: {"current_spend": spent} for it, spent in shown}
        or None,
        "budget_id": terms.budget_id,
        "litellm_budget_table": table(row.terms.budget_id, budget),
        "models": list(row.models),
        "aliases": row.aliases,
        "tags": list(row.tags),
        "metadata": read_metadata(details.get("metadata")),
        "user_id": row.user_id,
        "team_id": row.team,
        "tpm_limit": row.rate_limits.get("tokens"),
        "rpm_limit": row.rate_limits.get("requests"),
        "max_parallel_requests": row.rate_limits.get("parallel"),
        "expires": shown_moment(row.expires_ms),
        "blocked": row.blocked,
        "created_at": shown_moment(row.created_ms or None),
        "created_by": details.get("created_by"),
        "updated_at": shown_moment(details.get("updated_ms") or row.created_ms or None),
        "updated_by": details.get("updated_by"),
        "last_active": shown_moment(row.last_used_ms),
    }


def table(budget_id: str | None, budget: Terms | None) -> BudgetTable | None:
    """The terms of the budget that somebody's terms name."""
    if budget_id is None or budget is None:
        return None
    its = {it: getattr(budget, it) for it in BudgetTable.__struct_fields__ if it != "budget_id"}
    return BudgetTable(budget_id=budget_id, **its)


def windows(
    terms: Terms, begin: str, since_ms: int, limit_ids: Sequence[str], found: Counted
) -> list[tuple[ShownWindow, Decimal]]:
    """The budgets of `budget_limits`, and what each has counted; the ids of limits begin so."""
    shown = []
    for it in terms.budget_limits or ():
        limit_id = window_id(begin, it, since_ms)
        if limit_id in limit_ids and limit_id in found:
            limit, totals = found[limit_id]
            resets_at = shown_moment(limit.resets_ms(totals.epoch))
            its = ShownWindow(
                budget_duration=it.budget_duration, max_budget=usd(limit.max), reset_at=resets_at
            )
            shown.append((its, usd(totals.settled)))
    return shown


def _status(row: KeyRow, now_ms: int) -> Literal["active", "expired", "revoked"]:
    if row.blocked:
        return "revoked"
    return "expired" if row.expires_ms is not None and row.expires_ms <= now_ms else "active"
