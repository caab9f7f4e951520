"""What was spent, on LiteLLM's wire; money is USD, exact."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from metering.api.litellm.openings import SURFACE
from metering.api.text import moment
from metering.core.ids import uuid7_text_ms
from metering.core.money import usd
from metering.core.record import UsageRow
from metering.store.keys import KeyRow
from metering.store.spend import Spent
from pricing.units import INPUT_TOKENS, OUTPUT_TOKENS

UNASSIGNED = "Unassigned"
"""The team of keys that have none."""
CALL_TYPES = {
    "/chat/completions": "acompletion",
    "/completions": "atext_completion",
    "/embeddings": "aembedding",
    "/messages": "anthropic_messages",
    "/responses": "aresponses",
    "/images/generations": "aimage_generation",
    "/audio/transcriptions": "atranscription",
    "/audio/speech": "aspeech",
}
"""What LiteLLM calls the calls of a path that ends so."""


class SpendLog(msgspec.Struct, kw_only=True):
    """A call, what was corrected since included."""

    request_id: str
    """The id in the provider's answer; without one, ours."""
    litellm_call_id: str
    """Ours, as the answer's `x-litellm-call-id` says."""
    call_type: str
    api_key: str
    spend: Decimal
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    startTime: datetime  # noqa: N815 - LiteLLM's word
    endTime: datetime  # noqa: N815 - likewise
    completionStartTime: datetime | None  # noqa: N815 - likewise
    request_duration_ms: int | None
    model: str
    model_group: str
    model_id: str
    custom_llm_provider: str
    api_base: str
    user: str
    end_user: str
    team_id: str | None
    request_tags: list[str]
    metadata: dict[str, Any]
    status: str
    cache_hit: str = "None"
    cache_key: str = ""
    session_id: str | None = None
    requester_ip_address: str | None = None
    messages: dict[str, Any] = msgspec.field(default_factory=dict)
    response: dict[str, Any] = msgspec.field(default_factory=dict)


class SpendLogPage(msgspec.Struct, kw_only=True):
    """A page of calls."""

    data: list[SpendLog]
    total: int
    page: int
    page_size: int
    total_pages: int


class EndUsers(msgspec.Struct, kw_only=True):
    """The body that asks who calls were for."""

    startTime: str | None = None  # noqa: N815 - LiteLLM's word
    endTime: str | None = None  # noqa: N815 - likewise
    api_key: str | None = None


def spend_log(row: UsageRow, key: KeyRow | None) -> SpendLog:
    """A call as LiteLLM's rows have it; `key` is the one that made it, if it is there still."""
    start_ms = uuid7_text_ms(row.request_id)
    prompt = sum(n for unit, n in row.units.items() if unit in INPUT_TOKENS)
    completion = sum(n for unit, n in row.units.items() if unit in OUTPUT_TOKENS)
    first = None if row.ttft_ms is None else moment(start_ms + row.ttft_ms)
    return SpendLog(
        request_id=row.provider_id or row.request_id,
        litellm_call_id=row.request_id,
        call_type=_call_type(row),
        api_key=row.key_id or "",
        spend=usd(row.cost_pico),
        total_tokens=prompt + completion,
        prompt_tokens=prompt,
        completion_tokens=completion,
        startTime=moment(start_ms),
        endTime=moment(start_ms + (row.latency_ms or 0)),
        completionStartTime=first,
        request_duration_ms=row.latency_ms,
        model=row.model or row.model_requested or "",
        model_group=row.model_requested or row.model or "",
        model_id="",
        custom_llm_provider=row.provider,
        api_base=row.provider_host or "",
        user=row.user_id or "",
        end_user=row.account_name or "",
        team_id=None if key is None else key.team,
        request_tags=list(row.tags),
        metadata=_metadata(row, key),
        status="success" if row.status in ("ok", "unresolved") else "failure",
    )


def _call_type(row: UsageRow) -> str:
    if row.surface == SURFACE:
        return SURFACE
    ends = (its for end, its in CALL_TYPES.items() if row.endpoint.endswith(end))
    return next(ends, "pass_through_endpoint")


def _metadata(row: UsageRow, key: KeyRow | None) -> dict[str, Any]:
    said: dict[str, Any] = {
        "user_api_key": row.key_id,
        "user_api_key_alias": None if key is None else key.name or None,
        "user_api_key_team_id": None if key is None else key.team,
        "user_api_key_user_id": row.user_id,
        "status": row.status,
        "usage": row.units,
        "estimated": row.estimated,
        "error_code": row.error_code,
    }
    return {name: value for name, value in said.items() if value not in (None, {})}


def daily(found: Iterable[Spent], last: str) -> list[dict[str, Any]]:
    """Day after day, what was spent with each key, for each user and on each model; `found` are by
    those. After the last day with any comes each day until `last`, without any."""
    days: dict[str, dict[str, Any]] = {}
    for it in found:
        blank: dict[str, Any] = {"startTime": it.day, "spend": 0, "users": {}, "models": {}}
        day = days.setdefault(it.day or "", {"keys": {}, **blank})
        day["spend"] += it.cost_pico
        for name, value in (("keys", it.key_id), ("users", it.user_id), ("models", it.model)):
            sums = day[name]
            sums[value or ""] = sums.get(value or "", 0) + it.cost_pico
    items = [_day(days[day]) for day in sorted(days)]
    if items:
        at, end = date.fromisoformat(items[-1]["startTime"]), date.fromisoformat(last)
        while (at := at + timedelta(days=1)) <= end:
            items.append({"startTime": at.isoformat(), "spend": 0, "users": {}, "models": {}})
    return items


def _day(day: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        name: {value: usd(pico) for value, pico in day[name].items()}
        for name in ("keys", "users", "models")
    }
    keys = {key: spent for key, spent in told.pop("keys").items() if key}
    return {**keys, "startTime": day["startTime"], "spend": usd(day["spend"]), **told}


def by_model(found: Iterable[Spent], name: str, value: str) -> dict[str, Any]:
    """What was spent in all, and on each model: sums by model of one key or user."""
    its = sorted(found, key=lambda it: (-it.cost_pico, it.model or ""))
    return {
        name: value,
        **_totals(its),
        "model_details": [{"model": it.model or "", **_totals([it])} for it in its],
    }


def _totals(its: Iterable[Spent]) -> dict[str, Any]:
    some = list(its)
    return {
        "total_cost": usd(sum(it.cost_pico for it in some)),
        "total_input_tokens": sum(it.input_tokens for it in some),
        "total_output_tokens": sum(it.output_tokens for it in some),
    }


def by_day(found: Iterable[tuple[str, Spent]], members: str, member: str) -> list[dict[str, Any]]:
    """By day, what each of some has spent, by model and key: `found` says whose sums are."""
    days: dict[str, dict[str, list[Spent]]] = {}
    for who, it in found:
        days.setdefault(it.day or "", {}).setdefault(who, []).append(it)
    return [
        {
            "group_by_day": f"{day}T00:00:00+00:00",
            members: [
                {
                    member: who,
                    "total_spend": usd(sum(it.cost_pico for it in its)),
                    "metadata": [_part(it) for it in its],
                }
                for who, its in sorted(some.items())
            ],
        }
        for day, some in sorted(days.items())
    ]


def _part(it: Spent) -> dict[str, Any]:
    return {
        "model": it.model or "",
        "api_key": it.key_id or "",
        "spend": usd(it.cost_pico),
        "total_tokens": it.input_tokens + it.output_tokens,
    }
