"""What was spent and used day by day, in LiteLLM's shape: each day with its parts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from metering.core.money import usd
from metering.store.keys import KeyRow
from metering.store.spend import Spent

Of = Callable[[Spent], str | None]
PARTS: dict[str, Of] = {
    "models": lambda it: it.model,
    "model_groups": lambda it: it.model,
    "providers": lambda it: it.provider,
    "endpoints": lambda it: it.endpoint,
}
"""What of a day is told apart, beside keys and whose it is."""
_COUNTS = (
    *("prompt_tokens", "completion_tokens", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "total_tokens", "successful_requests", "failed_requests"),
    "api_requests",
)


def days(found: Sequence[Spent], entity: Of, keys: Mapping[str, KeyRow]) -> list[dict[str, Any]]:
    """Each day, the latest first; `entity` says whose a sum is."""
    together = groupby(found, key=lambda it: it.day or "")
    told = [_day(day, list(its), entity, keys) for day, its in together]
    return sorted(told, key=lambda it: str(it["date"]), reverse=True)


def totals(found: Sequence[Spent]) -> dict[str, Any]:
    """The sums of all days."""
    its = metrics(found)
    return {
        f"total_{name}".replace("total_total", "total"): its[name] for name in ("spend", *_COUNTS)
    }


def metrics(found: Iterable[Spent]) -> dict[str, Any]:
    """What some have spent and used."""
    its = list(found)
    prompt = sum(it.input_tokens for it in its)
    completion = sum(it.output_tokens for it in its)
    ok, failed = sum(it.ok for it in its), sum(it.failed for it in its)
    return {
        "spend": usd(sum(it.cost_pico for it in its)),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cache_read_input_tokens": sum(it.cache_read_tokens for it in its),
        "cache_creation_input_tokens": sum(it.cache_write_tokens for it in its),
        "total_tokens": prompt + completion,
        "successful_requests": ok,
        "failed_requests": failed,
        "api_requests": ok + failed,
    }


def _day(day: str, its: list[Spent], entity: Of, keys: Mapping[str, KeyRow]) -> dict[str, Any]:
    parts = {name: _parts(its, of, keys) for name, of in PARTS.items()}
    breakdown = {
        "mcp_servers": {},
        **parts,
        "api_keys": _keys(its, keys),
        "entities": _parts(its, entity, keys),
    }
    return {"date": day, "metrics": metrics(its), "breakdown": breakdown}


def _parts(its: Iterable[Spent], of: Of, keys: Mapping[str, KeyRow]) -> dict[str, Any]:
    groups: dict[str, list[Spent]] = {}
    for it in its:
        if value := of(it):
            groups.setdefault(value, []).append(it)
    return {
        value: {
            "metrics": metrics(some),
            "metadata": {},
            "api_key_breakdown": _keys(some, keys),
        }
        for value, some in groups.items()
    }


def _keys(its: Iterable[Spent], keys: Mapping[str, KeyRow]) -> dict[str, Any]:
    groups: dict[str, list[Spent]] = {}
    for it in its:
        if it.key_id:
            groups.setdefault(it.key_id, []).append(it)
    return {
        key_id: {"metrics": metrics(some), "metadata": _metadata(keys.get(key_id))}
        for key_id, some in groups.items()
    }


def _metadata(row: KeyRow | None) -> dict[str, Any]:
    if row is None:
        return {"key_alias": None, "team_id": None, "user_id": None, "key_exists": False}
    return {
        "key_alias": row.name or None,
        "team_id": row.team,
        "user_id": row.user_id,
        "key_exists": True,
    }
