"""A reported call as a later report of it has it: what that does not say stays as it was.

What the call is and when it was stays in any case: its request id and time, its category and the
provider's id, whose key reported it first, and which limits it was charged to.
"""

from __future__ import annotations

from typing import Any

import msgspec

from metering.core.record import UsageRow

LABELS = (
    *("scope", "user_id", "account_name", "use_case_name", "use_case_id", "use_case_version"),
    *("use_case_step", "latency_ms", "ttft_ms", "ttfct_ms", "provider_host"),
)
"""What is replaced by what a report says of it, one by one."""
SUMMED_BY = (
    *("status", "pricing", "estimated", "model", "provider", "key_id"),
    *("user_id", "use_case_name", "tags"),
)
"""What hours are summed by: a call that differs in it moves from one sum to another."""
_APART = frozenset({"entry", "warnings", "price_id", "price_version"})
"""What is no reason for a correction by itself."""


def restated(before: UsageRow, said: UsageRow) -> UsageRow:
    """The labels of a call once a later report has said something of it; the amounts as before."""
    changes: dict[str, Any] = {}
    for name in LABELS:
        value = getattr(said, name)
        if value is not None:
            changes[name] = value
    if said.tags:
        changes["tags"] = said.tags
    if said.model is not None:
        changes |= {"model": said.model, "model_requested": said.model_requested}
    if said.http_status is not None:
        changes |= {it: getattr(said, it) for it in ("http_status", "status", "error_code")}
    for name in ("properties", "use_case_properties"):
        changes[name] = merged(getattr(before, name), getattr(said, name))
    return msgspec.structs.replace(before, **changes)


def merged(before: dict[str, str | None], changes: dict[str, str | None]) -> dict[str, str | None]:
    """Properties with others put in; a null takes its name away."""
    return {name: value for name, value in (before | changes).items() if value is not None}


def moves(before: UsageRow, after: UsageRow) -> bool:
    """Whether a call is in other sums than before."""
    return any(getattr(before, name) != getattr(after, name) for name in SUMMED_BY)


def differs(before: UsageRow, after: UsageRow) -> bool:
    """Whether a call is another one than before in anything that counts."""
    one, other = _comparable(before), _comparable(after)
    limit_ids = {**before.limit_costs, **after.limit_costs}
    return one != other or any(before.cost_for(it) != after.cost_for(it) for it in limit_ids)


def _comparable(row: UsageRow) -> dict[str, Any]:
    names = (it for it in row.__struct_fields__ if it not in _APART and it != "limit_costs")
    found = {name: getattr(row, name) for name in names}
    for name in ("units", "lines"):  # nothing of a unit is as good as no such unit
        found[name] = {unit: count for unit, count in found[name].items() if count}
    return found
