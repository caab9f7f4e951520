"""A UsageRow and its charges as Postgres keeps them: columns going in, records coming out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from metering.core.limits import Charge, Refusal
from metering.core.record import UsageRow
from metering.store import Record
from pricing.units import INPUT_TOKENS, OUTPUT_TOKENS

Landed = tuple[UsageRow, tuple[Charge, ...]]
"""A row, and what it charged each limit."""
FIELDS = tuple(field.name for field in msgspec.structs.fields(UsageRow))
JSON_FIELDS = frozenset(
    {"units", "lines", "warnings", "tags", "properties", "use_case_properties"},
)
_decode_charges = msgspec.json.Decoder(tuple[Charge, ...]).decode
_decode_limit_costs = msgspec.json.Decoder(dict[str, tuple[int, int]]).decode
_decode_refusals = msgspec.json.Decoder(list[Refusal]).decode
_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode


def columns(landed: Sequence[Landed]) -> list[tuple[object, ...]]:
    """The arguments of `land_usage`: one array for each column, in its order.

    A column in which no row has anything is an empty array, which Postgres fills with nulls.
    """
    arrays = zip(*[_values(row, charges) for row, charges in landed], strict=True)
    return [() if array.count(None) == len(array) else array for array in arrays]


def _values(row: UsageRow, charges: tuple[Charge, ...]) -> tuple[object, ...]:
    return (
        row.application_id,
        row.request_id,
        row.attempt,
        row.entry,
        row.at_ms,
        row.key_id,
        row.surface,
        row.provider,
        row.category,
        row.method,
        row.endpoint,
        row.streamed,
        row.status,
        row.http_status,
        row.error_code,
        row.pricing,
        row.estimated,
        row.model_requested,
        row.model,
        row.price_as_category,
        row.price_as_resource,
        row.price_id,
        row.service_tier,
        row.scope,
        _json(row.units),
        _json(row.lines),
        _sum(row.units, INPUT_TOKENS),
        _sum(row.units, OUTPUT_TOKENS),
        row.input_pico,
        row.output_pico,
        row.cost_pico,
        _json(row.warnings),
        row.provider_id,
        row.user_id,
        row.account_name,
        row.use_case_name,
        row.use_case_id,
        row.use_case_version,
        row.use_case_step,
        _json(row.tags),
        _json(row.properties),
        _json(row.use_case_properties),
        row.latency_ms,
        row.ttft_ms,
        _json(charges),
        row.provider_host,
        row.price_version,
        row.credential,
        _json(row.limit_costs) if row.limit_costs else None,
        _json(row.refusals) if row.refusals else None,
        row.retry_count,
        row.ttfct_ms,
    )


def read(record: Record) -> Landed:
    """The row of a record of `usage` that has `at_ms` beside its columns."""
    values = {name: record[name] for name in FIELDS}
    values["application_id"] = str(values["application_id"])
    values["request_id"] = str(values["request_id"])
    for name in JSON_FIELDS:
        values[name] = _decode(values[name])
    values["limit_costs"] = _decode_limit_costs(values["limit_costs"] or "{}")
    values["refusals"] = _decode_refusals(values["refusals"] or "[]")
    return UsageRow(**values), _decode_charges(record["charges"])


def _json(value: object) -> str:
    if not value:  # as most labels of most rows are
        return "{}" if isinstance(value, dict) else "[]"
    return _encode(value).decode()


def _sum(units: Mapping[str, int], names: frozenset[str]) -> int:
    return sum([count for unit, count in units.items() if unit in names])
