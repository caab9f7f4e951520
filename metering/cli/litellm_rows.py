"""Rows of a LiteLLM database as the API takes them (`POST /imports/litellm`), and what of them has
no like here.

LiteLLM's amounts are doubles. Of each the shortest decimal is taken; what was spent is then rounded
up to a pico-dollar, what may be spent down.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

Row = Mapping[str, Any]
UI_TEAM = "litellm-dashboard"
"""Whose keys LiteLLM makes for sessions of its dashboard: they are not imported."""
PICO = Decimal("1e-12")
RATE_MAX = 10**12
METADATA_CHARS_MAX = 60_000
_WIDE = Context(prec=64)
_RATES = ("tpm_limit", "rpm_limit", "max_parallel_requests")
_SHOWN = ("team_alias", "user_alias", "user_email", "user_role", "alias")
_LOST = (
    *("access_group_ids", "agent_id", "allowed_cache_controls", "allowed_model_region"),
    *("allowed_models", "allowed_routes", "auto_rotate", "budget_fallbacks", "config"),
    *("default_model", "default_team_member_models", "members_with_roles", "model_max_budget"),
    *("object_permission_id", "organization_id", "permissions", "policies", "project_id"),
    *("router_settings", "temp_budget_increase", "tpd_limit"),
)
_LOST_IN_METADATA = (
    *("allowed_passthrough_routes", "guardrails", "mcp_rpm_limit", "model_rpm_limit"),
    *("model_tpm_limit", "tag_rpm_limit", "team_member_budget_id", "team_member_key_duration"),
)
_READS = frozenset({"management_routes", "info_routes"})
"""Who may ask these alone makes no calls."""


class Rows:
    """Makes bodies of rows; `lost` counts what they said that has no like here, by name."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.lost: Counter[str] = Counter()
        self._resets: dict[str, str | None] = {}
        self._aliases: dict[int, Mapping[str, Any]] = {}
        self._team_aliases: dict[str, Mapping[str, Any]] = {}
        self._windows: dict[tuple[str, str], dict[str, Decimal]] = {}

    # What others refer to

    def note_aliases(self, row: Row) -> None:
        """Names of models, which a team's keys have."""
        self._aliases[row["id"]] = _object(row.get("aliases"))

    def note_window(self, row: Row) -> None:
        """What was spent of one of several budgets."""
        whose = (row["entity_type"], row["entity_id"])
        self._windows.setdefault(whose, {})[row["window_duration"]] = row["spend"]

    # Bodies

    def budget(self, row: Row) -> dict[str, Any]:
        """A budget that others take."""
        self._resets[row["budget_id"]] = row.get("budget_reset_at")
        self._note_lost("budget", row)
        created = {"created_at": row["created_at"]} if row.get("created_at") else {}
        return {"kind": "budget", "name": row["budget_id"], **self._terms(row, ""), **created}

    def team(self, row: Row) -> dict[str, Any]:
        """A team."""
        self._team_aliases[row["team_id"]] = self._aliases.get(row.get("model_id") or 0, {})
        return self._holder("team", row["team_id"], row)

    def user(self, row: Row) -> dict[str, Any]:
        """A user."""
        return self._holder("user", row["user_id"], row)

    def customer(self, row: Row) -> dict[str, Any]:
        """A customer, whom LiteLLM calls an end user."""
        return self._holder("customer", row["user_id"], row)

    def key(self, row: Row) -> dict[str, Any] | None:
        """A key; None: it is one of LiteLLM's dashboard."""
        if row.get("team_id") == UI_TEAM:
            return None
        metadata = _object(row.get("metadata"))
        team = self._team_aliases.get(row.get("team_id") or "", {})
        tags = metadata.get("tags")
        optional = {
            "key_alias": row.get("key_alias"),
            "expires_at": row.get("expires"),
            "user_id": row.get("user_id"),
            "team_id": row.get("team_id"),
            "aliases": {**team, **_object(row.get("aliases"))},
            "tags": tags if isinstance(tags, list) else None,
        }
        reads = row.get("key_type") in ("management", "read_only") or (
            bool(row.get("allowed_routes")) and _READS.issuperset(row["allowed_routes"])
        )
        return {
            "token": row["token"],
            "role": "read" if reads else "app",
            "last4": (row.get("key_name") or "")[-4:],
            **{name: value for name, value in optional.items() if value},
            **self._common("key", row["token"], row),
        }

    def day(self, row: Row) -> dict[str, Any] | None:
        """What was spent on a day; None: the day is not over."""
        if row["date"] >= self._now.date().isoformat():
            return None
        names = {
            "user_id": "user_id",
            "model": "model",
            "provider": "custom_llm_provider",
            "endpoint": "endpoint",
            "token": "api_key",
        }
        counts = {
            "prompt_tokens": "prompt_tokens",
            "completion_tokens": "completion_tokens",
            "cache_read_tokens": "cache_read_input_tokens",
            "cache_write_tokens": "cache_creation_input_tokens",
            "requests": "api_requests",
        }
        return {
            "id": row["id"],
            "date": row["date"],
            "spend": _up(row["spend"]),
            **{name: row[its] for name, its in names.items() if row.get(its)},
            **{name: row[its] for name, its in counts.items() if row.get(its)},
        }

    def _holder(self, kind: str, name: str, row: Row) -> dict[str, Any]:
        shown = {it: row[it] for it in _SHOWN if row.get(it)}
        return {"kind": kind, "name": name, **shown, **self._common(kind, name, row)}

    def _common(self, kind: str, name: str, row: Row) -> dict[str, Any]:
        self._note_lost(kind, row)
        metadata = _object(row.get("metadata"))
        if len(json.dumps(metadata, default=str)) > METADATA_CHARS_MAX:
            self.lost[f"{kind}: metadata that is too large"] += 1
            metadata = {}
        for its in _LOST_IN_METADATA:
            if metadata.get(its):
                self.lost[f"{kind}: metadata.{its}"] += 1
        members: dict[str, Any] = {
            "models": row.get("models") or [],
            "metadata": metadata,
            "blocked": bool(row.get("blocked")),
            "spend": self._spent(row),
            "window_spend": self._spent_in_windows(kind, name, row),
            **self._terms(row, kind),
        }
        if row.get("created_at"):
            members["created_at"] = row["created_at"]
        return members

    def _terms(self, row: Row, kind: str) -> dict[str, Any]:
        asked: dict[str, Any] = {
            name: _down(row[name])
            for name in ("max_budget", "soft_budget")
            if isinstance(row.get(name), Decimal | int)  # infinity is a text
        }
        for name in _RATES:
            if row.get(name) is not None:
                asked[name] = min(row[name], RATE_MAX)
        for name in ("budget_duration", "budget_id"):
            if row.get(name) and (name != "budget_id" or kind):
                asked[name] = row[name]
        windows = _list(row.get("budget_limits"))
        if windows:
            asked["budget_limits"] = [
                {"budget_duration": it["budget_duration"], "max_budget": _down(it["max_budget"])}
                for it in windows
            ]
        return asked

    def _spent(self, row: Row) -> Decimal:
        """In the window of its budget: none if that is over, which LiteLLM takes in later."""
        reset = row.get("budget_reset_at") or self._resets.get(row.get("budget_id") or "")
        return Decimal(0) if self._is_over(reset) else _up(row.get("spend") or Decimal(0))

    def _spent_in_windows(self, kind: str, name: str, row: Row) -> dict[str, Decimal]:
        spent = self._windows.get((kind, name), {})
        over = {
            it["budget_duration"]
            for it in _list(row.get("budget_limits"))
            if self._is_over(it.get("reset_at"))
        }
        return {its: _up(amount) for its, amount in spent.items() if its not in over}

    def _is_over(self, reset: str | None) -> bool:
        if not reset:
            return False
        at = datetime.fromisoformat(reset)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)) <= self._now

    def _note_lost(self, kind: str, row: Row) -> None:
        for name in _LOST:
            value = row.get(name)
            if value and value not in ("{}", "[]"):
                self.lost[f"{kind}: {name}"] += 1


def _object(value: object) -> Mapping[str, Any]:
    """A JSON object, which LiteLLM may have stored as the text of one."""
    found = json.loads(value, parse_float=Decimal) if isinstance(value, str) and value else value
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[Any]:
    found = json.loads(value, parse_float=Decimal) if isinstance(value, str) and value else value
    return found if isinstance(found, list) else []


def _up(amount: Decimal | int) -> Decimal:
    return Decimal(amount).quantize(PICO, ROUND_CEILING, _WIDE).normalize(_WIDE)


def _down(amount: Decimal | int) -> Decimal:
    return Decimal(amount).quantize(PICO, ROUND_FLOOR, _WIDE).normalize(_WIDE)
