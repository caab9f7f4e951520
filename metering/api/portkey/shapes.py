"""Virtual keys on Portkey's wire: bodies, how they are checked, and what answers show."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from metering.api.caps import Counted
from metering.api.credentials import State, state
from metering.api.limit_shapes import amount, bounds
from metering.api.text import moment
from metering.core.credentials import Deployment, ModelConfig
from metering.core.limits import Limit, Totals
from metering.core.terms import Cap
from metering.core.virtual_keys import RateLimit, Terms, UsageLimit, budgets
from metering.errors import InvalidRequest
from metering.providers import hosts
from metering.store.credentials import CredentialRow

NOTE_CHARS_MAX = 4096
DEPLOYMENTS_MAX = 100
PAGE_SIZE, PAGE_SIZE_MAX = 50, 1000
AZURE = {"resourceName": "resource", "deploymentName": "deployment", "apiVersion": "api_version"}
"""By Portkey's word, ours in a `ModelConfig`."""
Status = Literal["active", "exhausted", "expired", "blocked", "needs_secret"]


class AskedConfig(msgspec.Struct, kw_only=True):
    """What may be said of where a virtual key goes, at the top of a body or in `model_config`."""

    apiVersion: str | UnsetType | None = UNSET  # noqa: N815 - Portkey's words, here and below
    resourceName: str | UnsetType | None = UNSET  # noqa: N815
    deploymentName: str | UnsetType | None = UNSET  # noqa: N815
    deploymentConfig: list[Deployment] | UnsetType | None = UNSET  # noqa: N815
    custom_host: str | UnsetType | None = UNSET


class AskedKey(AskedConfig, kw_only=True):
    """What may be asked for of a virtual key: what is absent stays, null takes away."""

    name: str | None = None
    key: str | None = None
    note: str | UnsetType | None = UNSET
    model_config: AskedConfig | None = None
    usage_limits: UsageLimit | list[UsageLimit] | UnsetType | None = UNSET
    rate_limits: list[RateLimit] | UnsetType | None = UNSET
    expires_at: str | int | UnsetType | None = UNSET
    secret_mappings: list[Any] | None = None


class CreateKey(AskedKey, kw_only=True):
    """The body of a new virtual key."""

    name: str
    provider: str
    key: str
    slug: str | None = None


class UpdateKey(AskedKey, kw_only=True):
    """The body of a change of a virtual key; `reset_usage` has its budgets count from zero."""

    reset_usage: bool | None = None


class RotateKey(msgspec.Struct, kw_only=True):
    """The body of another secret."""

    key: str


class Named(msgspec.Struct, kw_only=True):
    """The slug of a virtual key."""

    slug: str


class ChangedKey(msgspec.Struct, kw_only=True):
    """The answer of a change: what it was of."""

    id: str
    slug: str
    data: Named
    success: Literal[True] = True
    object: Literal["virtual-key"] = "virtual-key"


class ShownUsage(msgspec.Struct, kw_only=True):
    """A usage limit, and what it has counted in its window that is now."""

    credit_limit: Decimal
    type: Literal["cost", "tokens"]
    alert_threshold: Decimal | None
    periodic_reset: Literal["weekly", "monthly"] | None
    periodic_reset_days: int | None
    next_usage_reset_at: datetime | None
    last_reset_at: datetime | None
    mode: Literal["hard", "block"]
    status: Literal["active", "exhausted"]
    current_usage: Decimal
    limit_id: str


class Usage(msgspec.Struct, kw_only=True):
    """What the first usage limit has counted; null without one."""

    current_usage: Decimal | None


class KeyView(msgspec.Struct, kw_only=True):
    """A virtual key, without its secret."""

    id: str
    slug: str
    name: str
    note: str | None
    status: Status
    ai_provider_name: str
    masked_api_key: str | None
    model_config: dict[str, Any]
    usage_limits: ShownUsage | list[ShownUsage] | None
    usage: Usage
    reset_usage: None
    rate_limits: list[RateLimit] | None
    expires_at: datetime | None
    created_at: datetime
    last_updated_at: datetime
    object: Literal["virtual-key"] = "virtual-key"


class KeyList(msgspec.Struct, kw_only=True):
    """A page of virtual keys."""

    total: int
    data: list[KeyView]
    object: Literal["list"] = "list"


def checked_provider(name: str) -> str:
    """A provider by Portkey's name, or by the one that the routes have for it."""
    found = hosts.dialect_of(name)
    if found is None:
        raise InvalidRequest(
            f"provider {name[:64]!r} is not served; there are {', '.join(hosts.known())}",
            field="provider",
        )
    return found


def checked_note(body: AskedKey, before: str | None = None) -> str | None:
    """A note, as a body changes it."""
    note = body.note
    if isinstance(note, UnsetType):
        return before
    if note is not None and (len(note) > NOTE_CHARS_MAX or "\0" in note):
        raise InvalidRequest(
            f"note has a NUL character or more than {NOTE_CHARS_MAX} characters", field="note"
        )
    return note


def checked_mappings(body: AskedKey) -> None:
    """Secrets are not read from anywhere else."""
    if body.secret_mappings:
        raise InvalidRequest(
            "secret_mappings: secrets are read from nowhere else here; send the provider's key as "
            "`key`",
            field="secret_mappings",
        )


def said_of_config(body: AskedKey) -> dict[str, Any]:
    """What a body says of where the key goes; what stands at its top counts first."""
    found: dict[str, Any] = {}
    for part in (body.model_config, body):
        if part is not None:
            names = AskedConfig.__struct_fields__
            found |= {it: getattr(part, it) for it in names if getattr(part, it) is not UNSET}
    return found


def merged_config(config: ModelConfig, said: dict[str, Any]) -> ModelConfig:
    """What is known of an Azure resource, as a body changes it."""
    changed: dict[str, Any] = {AZURE[name]: said[name] or None for name in said if name in AZURE}
    for name, ours in AZURE.items():
        if len(changed.get(ours) or "") > NOTE_CHARS_MAX // 16:
            raise InvalidRequest(f"{name} is too long", field=name)
    if "deploymentConfig" in said:
        changed["deployments"] = tuple(said["deploymentConfig"] or ())
        _check_deployments(changed["deployments"])
    return replace(config, **changed)


def _check_deployments(deployments: Sequence[Deployment]) -> None:
    """One that is not the default needs an alias; at most one is the default."""
    if len(deployments) > DEPLOYMENTS_MAX:
        raise InvalidRequest(
            f"deploymentConfig has more than {DEPLOYMENTS_MAX} deployments",
            field="deploymentConfig",
        )
    if deployments and sum(it.is_default for it in deployments) != 1:
        raise InvalidRequest(
            "deploymentConfig must have one deployment with is_default true: calls of no alias go "
            "there",
            field="deploymentConfig",
        )


def merged_terms(terms: Terms, body: AskedKey) -> Terms:
    """Budgets and rates as a body changes them."""
    usage, rates = body.usage_limits, body.rate_limits
    if not isinstance(usage, UnsetType):
        listed = isinstance(usage, list)
        its = usage if isinstance(usage, list) else [usage] if usage is not None else []
        terms = replace(terms, usage_limits=tuple(its), listed=listed)
    if not isinstance(rates, UnsetType):
        terms = replace(terms, rate_limits=tuple(rates or ()))
    return terms


def changed_key(row: CredentialRow) -> ChangedKey:
    """The answer of a change."""
    return ChangedKey(id=row.credential_id, slug=row.slug, data=Named(slug=row.slug))


def view(row: CredentialRow, found: Counted, now_ms: int) -> KeyView:
    """A virtual key as answers show it; `found` has its limits."""
    caps = budgets(row.slug, row.terms, row.created_ms)
    shown = [_usage(*pair, found) for pair in zip(row.terms.usage_limits, caps, strict=True)]
    exhausted = any(it.status == "exhausted" for it in shown)
    return KeyView(
        id=row.credential_id,
        slug=row.slug,
        name=row.name,
        note=row.note,
        status=_status(state(row, now_ms), exhausted=exhausted),
        ai_provider_name=hosts.name_of(row.provider),
        masked_api_key=None if row.last4 is None else "***" + row.last4,
        model_config=_config(row),
        usage_limits=shown if row.terms.listed else next(iter(shown), None),
        usage=Usage(current_usage=shown[0].current_usage if shown else None),
        reset_usage=None,
        rate_limits=list(row.terms.rate_limits) or None,
        expires_at=None if row.expires_ms is None else moment(row.expires_ms),
        created_at=moment(row.created_ms),
        last_updated_at=moment(row.updated_ms),
    )


def _status(its: State, *, exhausted: bool) -> Status:
    if its == "ready":
        return "exhausted" if exhausted else "active"
    return its


def _config(row: CredentialRow) -> dict[str, Any]:
    config: dict[str, Any] = msgspec.to_builtins(row.model_config)
    host = hosts.azure_host(row.model_config.resource or "")
    if row.origin is not None and row.origin != f"https://{host}":
        config["custom_host"] = row.origin
    return config


def _usage(asked: UsageLimit, cap: Cap, found: Counted) -> ShownUsage:
    limit, totals = found.get(cap.limit_id, (None, None))
    starts_at, resets_at = _bounds(limit, totals)
    spent = 0 if totals is None else totals.settled
    return ShownUsage(
        credit_limit=asked.credit_limit,
        type=asked.type,
        alert_threshold=asked.alert_threshold,
        periodic_reset=asked.periodic_reset,
        periodic_reset_days=asked.periodic_reset_days,
        next_usage_reset_at=resets_at,
        last_reset_at=starts_at,
        mode=asked.mode,
        status="exhausted" if spent >= cap.max else "active",
        current_usage=amount(spent, cap.unit),
        limit_id=cap.limit_id,
    )


def _bounds(limit: Limit | None, totals: Totals | None) -> tuple[datetime | None, datetime | None]:
    if limit is None or totals is None:
        return None, None
    return bounds(limit, totals)
