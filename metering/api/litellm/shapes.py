"""What bodies of several of LiteLLM's routes have in common, and how it is checked."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from metering.api.server import ApiRequest
from metering.api.text import moment
from metering.core.rates import RATE_MAX
from metering.core.terms import BudgetWindow, Terms
from metering.errors import InvalidRequest

METADATA_BYTES_MAX = 64 * 1024
_TERMS = Terms.__struct_fields__
_RATES = ("tpm_limit", "rpm_limit", "max_parallel_requests")
_encoder = msgspec.json.Encoder(decimal_format="number")
_exact = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
IGNORED = frozenset(
    {
        *("access_group_ids", "agent_id", "allowed_cache_controls", "allowed_model_region"),
        *("allowed_passthrough_routes", "allowed_routes", "allowed_vector_store_indexes"),
        *("auto_rotate", "budget_fallbacks", "config", "default_estimated_output_tokens"),
        *("default_estimated_output_tokens_per_model", "default_model"),
        *("denied_passthrough_routes", "disable_global_guardrails", "enable_prompt_caching"),
        *("end_user_budget_id", "enforced_params", "guardrails", "mcp_rpm_limit"),
        *("members_with_roles", "model_aliases", "model_max_budget", "model_rpm_limit"),
        *("model_tpm_limit", "object_permission", "organization_id", "permissions", "policies"),
        *("project_id", "prompts", "rotation_interval", "router_settings", "rpm_limit_type"),
        *("send_invite_email", "tag_rpm_limit", "team_member_budget", "team_member_rpm_limit"),
        *("team_member_tpm_limit", "temp_budget_expiry", "temp_budget_increase"),
        *("throttle_on_budget_exceeded", "tpd_limit", "tpm_limit_type"),
    }
)
"""Members that LiteLLM knows and this service does nothing with; an answer names those it got."""


class AskedTerms(msgspec.Struct, kw_only=True):
    """Budgets and rates, as bodies have them: what is absent stays, null takes away."""

    max_budget: Decimal | UnsetType | None = UNSET
    soft_budget: Decimal | UnsetType | None = UNSET
    budget_duration: str | UnsetType | None = UNSET
    budget_limits: list[BudgetWindow] | UnsetType | None = UNSET
    tpm_limit: int | UnsetType | None = UNSET
    rpm_limit: int | UnsetType | None = UNSET
    max_parallel_requests: int | UnsetType | None = UNSET
    budget_id: str | UnsetType | None = UNSET


def said(body: msgspec.Struct, *names: str) -> dict[str, Any]:
    """The members of a body that are there, null or not."""
    wanted = names or body.__struct_fields__
    return {it: getattr(body, it) for it in wanted if getattr(body, it) is not UNSET}


def merged(terms: Terms, body: AskedTerms) -> Terms:
    """Terms as a body changes them; raises InvalidRequest naming the member."""
    changed = said(body, *_TERMS)
    for name in _RATES:
        if (most := changed.get(name)) is not None and not 0 <= most <= RATE_MAX:
            raise InvalidRequest(f"{name} must be from 0 to {RATE_MAX}", field=name)
    if changed.get("budget_limits"):
        changed["budget_limits"] = tuple(changed["budget_limits"])
    for name in ("budget_limits", "budget_id", "budget_duration"):
        if name in changed:
            changed[name] = changed[name] or None
    return replace(terms, **changed)


def metadata_text(metadata: Mapping[str, Any] | None) -> str:
    """Metadata as it is kept: as text, so that its numbers stay what they are."""
    try:
        text = _encoder.encode(metadata or {})
    except OverflowError:
        raise InvalidRequest("metadata has a number of too many digits", field="metadata") from None
    if len(text) > METADATA_BYTES_MAX:
        raise InvalidRequest(
            f"metadata is larger than {METADATA_BYTES_MAX} bytes", field="metadata"
        )
    return text.decode()


def read_metadata(text: str | None) -> dict[str, Any]:
    """Metadata as it is shown."""
    return _exact.decode(text) if text else {}


async def ignored(request: ApiRequest) -> list[str]:
    """Which members of a body are known and not done, by name."""
    body = await request.json()
    return sorted(name for name, value in body.items() if name in IGNORED and value)


def who(request: ApiRequest) -> str:
    """Who asks, as `created_by` has it."""
    return request.user.key_id or "admin"


def shown_moment(at_ms: int | None) -> datetime | None:
    """A time, if there is one."""
    return None if at_ms is None else moment(at_ms)
