"""Usage on the wire: ledger entries and sums as JSON objects, and both as CSV.

Costs are USD, exact JSON numbers; `cost_pico` is the same total as text, for readers whose numbers
are doubles. CSV cells that a spreadsheet would take for a formula are quoted with an apostrophe.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from metering.api.limit_shapes import amount
from metering.api.text import moment
from metering.core.money import usd
from metering.store.usage import Entry, Group
from pricing.units import INPUT_TOKENS, OUTPUT_TOKENS

GROUP_COLUMNS = (
    "calls",
    "ok",
    "failed",
    "blocked",
    "unresolved",
    "estimated",
    "unpriced",
    "input_tokens",
    "output_tokens",
)
COST_COLUMNS = ("input_cost_usd", "output_cost_usd", "cost_usd", "cost_pico")
_COPIED = (
    "request_id",
    "attempt",
    "entry",
    "application_id",
    "key_id",
    "surface",
    "provider",
    "provider_host",
    "category",
    "method",
    "endpoint",
    "streamed",
    "status",
    "http_status",
    "error_code",
    "pricing",
    "estimated",
    "retry_count",
    "model_requested",
    "model",
    "price_as_category",
    "price_as_resource",
    "price_id",
    "price_version",
    "service_tier",
    "scope",
    "credential",
    "provider_id",
    "user_id",
    "account_name",
    "use_case_name",
    "use_case_id",
    "use_case_version",
    "use_case_step",
    "latency_ms",
    "ttft_ms",
    "ttfct_ms",
    "tags",
    "warnings",
    "properties",
    "use_case_properties",
    "units",
)
ENTRY_COLUMNS = (
    "at",
    *_COPIED,
    "input_tokens",
    "output_tokens",
    *COST_COLUMNS,
    "lines",
    "limits",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def costs(input_pico: int, output_pico: int, cost_pico: int) -> dict[str, Decimal | str]:
    """The costs of an entry or a sum."""
    return {
        "input_cost_usd": usd(input_pico),
        "output_cost_usd": usd(output_pico),
        "cost_usd": usd(cost_pico),
        "cost_pico": str(cost_pico),
    }


def entry_object(entry: Entry) -> dict[str, Any]:
    """One entry of the ledger; what is not known is left out."""
    row = entry.row
    members: dict[str, Any] = {"at": moment(row.at_ms)}
    for name in _COPIED:
        value = getattr(row, name)
        if value is not None:
            members[name] = value
    members["input_tokens"] = sum(n for unit, n in row.units.items() if unit in INPUT_TOKENS)
    members["output_tokens"] = sum(n for unit, n in row.units.items() if unit in OUTPUT_TOKENS)
    members |= costs(row.input_pico, row.output_pico, row.cost_pico)
    members["lines"] = {unit: usd(pico) for unit, pico in row.lines.items()}
    members["limits"] = [
        {
            "limit_id": charge.limit_id,
            "unit": charge.unit,
            "amount": amount(charge.amount, charge.unit),
            "state": charge.state,
        }
        for charge in entry.charges
    ]
    return members


def group_object(group: Group) -> dict[str, Any]:
    """The sums of the rows that share the group's values."""
    sums = group.sums
    counted = {name: getattr(sums, name) for name in GROUP_COLUMNS}
    return {**group.values, **counted, **costs(sums.input_pico, sums.output_pico, sums.cost_pico)}


def csv_text(columns: Iterable[str], items: Iterable[Mapping[str, Any]]) -> str:
    """The items as CSV (RFC 4180) with a header line."""
    file = io.StringIO()
    writer = csv.writer(file)
    names = tuple(columns)
    writer.writerow(names)
    for item in items:
        writer.writerow(cell(item.get(name)) for name in names)
    return file.getvalue()


def cell(value: Any) -> str:
    """A CSV cell: numbers without exponent, lists and objects as JSON, and never a formula."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case int():
            return str(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case list() if all(isinstance(item, str) for item in value):
            text = ";".join(value)
        case list() | dict():
            text = msgspec.json.Encoder(decimal_format="number").encode(value).decode()
        case _:
            text = str(value)
    return "'" + text if text.startswith(_FORMULA) else text
