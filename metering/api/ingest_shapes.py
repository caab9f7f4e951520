"""A reported call on the wire, in Pay-i's shape, and what it is to the meter.

What old SDKs sent in other words is understood: `input` and `output` in place of `units`,
`provisioned_resource_name` in place of `resource`. Unknown members are ignored.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from metering.api.text import (
    PROPERTY_CHARS_MAX,
    checked_name,
    checked_properties,
    has_control,
    moment,
    time_ms,
)
from metering.core.annotations import NONE, Annotations, of_members
from metering.core.bodies import NOTHING, Bodies, FunctionCall, HeaderInfo
from metering.core.ids import uuid7_text
from metering.core.record import INGEST, UsageRow
from metering.core.resources import TYPES_MAX
from metering.errors import InvalidRequest, XproxyError
from metering.meter import Reported
from metering.meter.reports import provider_for

UNITS_MAX = 2**31 - 1
MILLISECONDS_MAX = 2**31 - 1
AHEAD_MS = 300_000
"""How far ahead of our clock a call may be dated."""
ID_CHARS_MAX = 256
FAILED_STATUS = 400
"""From here on an HTTP status is a failure: nothing is charged."""
STATUS_MAX = 999
HOST_CHARS_MAX = 256


class Units(msgspec.Struct, kw_only=True):
    """How many of a type of unit went in, and came out."""

    input: int | None = None
    output: int | None = None


class IngestEvent(msgspec.Struct, kw_only=True):
    """A call that was made elsewhere."""

    category: str
    units: dict[str, Units] | None = None
    resource: str | None = None
    event_timestamp: str | None = None
    end_to_end_latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    time_to_first_completion_token_ms: int | None = None
    http_status_code: int | None = None
    properties: dict[str, str | None] | None = None
    use_case_properties: dict[str, str | None] | None = None
    provider_uri: str | None = None
    provider_request_headers: list[HeaderInfo] | None = None
    provider_request_json: str | None = None
    provider_request_reasoning_json: str | None = None
    provider_response_function_calls: list[FunctionCall] | None = None
    provider_response_headers: list[HeaderInfo] | None = None
    provider_response_id: str | None = None
    provider_response_json: str | list[str] | None = None
    input: int | None = None
    output: int | None = None
    provisioned_resource_name: str | None = None
    # what headers say of a single one
    limit_ids: list[str] | None = None
    request_tags: list[str] | None = None
    user_id: str | None = None
    account_name: str | None = None
    use_case_id: str | None = None
    use_case_name: str | None = None
    use_case_version: int | None = None
    use_case_step: str | None = None
    scope: str | None = None


class IngestResponse(msgspec.Struct, kw_only=True):
    """What became of a reported call; `request_id` is the call's."""

    request_id: str
    ingest_timestamp: datetime
    event_timestamp: datetime
    xproxy_result: msgspec.Raw


class BulkFault(msgspec.Struct, kw_only=True):
    """Why one of many was not taken."""

    item_index: int
    xproxy_result: dict[str, Any]


class BulkIngestResponse(msgspec.Struct, kw_only=True):
    """What became of many: `ingest_count` are new, `duplicate_count` had been reported before."""

    request_id: str
    ingest_timestamp: datetime
    ingest_count: int
    duplicate_count: int
    corrected_count: int
    error_count: int
    item_error_count: int
    total_count: int
    errors: list[BulkFault]


class Reporter(msgspec.Struct, frozen=True, kw_only=True):
    """Who reports, and when."""

    application_id: str
    key_id: str | None
    now_ms: int
    logging: bool
    """Whether what was said in calls is kept."""


def annotated(event: IngestEvent, said: Annotations = NONE) -> Annotations:
    """What a reported call says about itself by its members, beside what headers have said: the
    lists add up, and of two values the header's counts."""
    members = {
        "limit_ids": ",".join(event.limit_ids or ()),
        "request_tags": ",".join(event.request_tags or ()),
        "user_id": event.user_id,
        "account_name": event.account_name,
        "use_case_id": event.use_case_id,
        "use_case_name": event.use_case_name,
        "use_case_version": str(event.use_case_version) if event.use_case_version else None,
        "use_case_step": event.use_case_step,
        "scope": event.scope,
    }
    return of_members({name: value for name, value in members.items() if value}).beside(said)


def reported(
    event: IngestEvent, said: Annotations, by: Reporter, random: bytes, asked_id: str | None = None
) -> Reported:
    """A reported call, checked; InvalidRequest names the member at fault. `asked_id` is `?id=`."""
    at_ms = _event_ms(event.event_timestamp, by.now_ms)
    resource = event.resource or event.provisioned_resource_name or None
    status = _within(event.http_status_code, "http_status_code", STATUS_MAX) or None
    failed = status is not None and status >= FAILED_STATUS
    warnings: list[str] = []
    given = _id(event.provider_response_id, "provider_response_id"), _id(asked_id, "id")
    ids = list(dict.fromkeys(it for it in given if it))
    labels = said.labels()
    for name in ("properties", "use_case_properties"):
        labels[name] = labels[name] | _properties(getattr(event, name), name, warnings)
    row = UsageRow(
        application_id=by.application_id,
        request_id=uuid7_text(at_ms, random),
        at_ms=at_ms,
        key_id=by.key_id,
        surface=INGEST,
        provider=provider_for(event.category),
        category=checked_name(event.category, "category"),
        status="failed" if failed else "ok",
        http_status=status,
        error_code="provider_error" if failed else None,
        model_requested=None if resource is None else checked_name(resource, "resource"),
        model=resource,
        provider_id=ids[0] if ids else None,
        latency_ms=_milliseconds(event, "end_to_end_latency_ms"),
        ttft_ms=_milliseconds(event, "time_to_first_token_ms"),
        ttfct_ms=_milliseconds(event, "time_to_first_completion_token_ms"),
        provider_host=_host(event.provider_uri),
        warnings=warnings,
        **labels,
    )
    return Reported(
        row=row,
        units=_units(event),
        limit_ids=said.limit_ids,
        names=tuple((row.category, it) for it in ids),
        bodies=_bodies(event) if by.logging else None,
    )


def _bodies(event: IngestEvent) -> Bodies | None:
    said = Bodies(
        provider_uri=event.provider_uri,
        provider_request_headers=event.provider_request_headers,
        provider_request_json=event.provider_request_json,
        provider_request_reasoning_json=event.provider_request_reasoning_json,
        provider_response_headers=event.provider_response_headers,
        provider_response_json=event.provider_response_json,
        provider_response_function_calls=event.provider_response_function_calls,
    )
    return None if said == NOTHING else said


def fault_object(fault: XproxyError) -> dict[str, Any]:
    """An ApiError, as a member."""
    error = {"code": fault.code, "message": fault.message}
    return {"message": fault.message, "statusCode": fault.status, "xproxy_error": error}


def _event_ms(text: str | None, now_ms: int) -> int:
    if not text:
        return now_ms
    at_ms = time_ms(text, "event_timestamp")
    if at_ms > now_ms + AHEAD_MS:
        raise InvalidRequest(
            f"Ingest event_timestamp {text} cannot be greater than 5 minutes into the future "
            f"{moment(now_ms).isoformat()}",
            code="invalid_ingest_event_timestamp",
            field="event_timestamp",
        )
    if at_ms < 0:
        raise InvalidRequest(
            f"Ingest event_timestamp {text} is before 1970",
            code="invalid_ingest_event_timestamp",
            field="event_timestamp",
        )
    return at_ms


def _units(event: IngestEvent) -> dict[tuple[str, str], int]:
    asked = event.units
    if asked is None:
        if event.input is None and event.output is None:
            raise InvalidRequest(
                "Required request field 'units' is missing",
                code="required_field_missing",
                field="units",
            )
        asked = {"text": Units(input=event.input, output=event.output)}
    if len(asked) > TYPES_MAX:
        raise InvalidRequest(f"units has more than {TYPES_MAX} members", field="units")
    found: dict[tuple[str, str], int] = {}
    for kind, counts in asked.items():
        checked_name(kind, "a name in units")
        for direction, count in (("input", counts.input), ("output", counts.output)):
            if count is not None:
                found[kind, direction] = _within(count, f"units.{kind}.{direction}", UNITS_MAX) or 0
    return found


def _within(value: int | None, field: str, most: int) -> int | None:
    if value is not None and not 0 <= value <= most:
        raise InvalidRequest(f"{field} must be between 0 and {most}", field=field)
    return value


def _milliseconds(event: IngestEvent, field: str) -> int | None:
    return _within(getattr(event, field), field, MILLISECONDS_MAX)


def _id(text: str | None, field: str) -> str | None:
    if not text:
        return None
    if len(text) > ID_CHARS_MAX or has_control(text):
        raise InvalidRequest(
            f"{field} has more than {ID_CHARS_MAX} characters, or control characters", field=field
        )
    return text


def _properties(
    properties: Mapping[str, str | None] | None, field: str, warnings: list[str]
) -> dict[str, str | None]:
    """Properties. Long values are cut: SDKs put stack traces there."""
    cut: dict[str, str | None] = {}
    for name, value in (properties or {}).items():
        cut[name] = value and value[:PROPERTY_CHARS_MAX]
        if value is not None and len(value) > PROPERTY_CHARS_MAX:
            warnings.append(f"{field} {name[:64]} was cut to {PROPERTY_CHARS_MAX} characters")
    return checked_properties(cut)


def _host(uri: str | None) -> str | None:
    """The host of a URI, if it is one: for information alone."""
    try:
        host = urlsplit(uri or "").netloc.rpartition("@")[2]
    except ValueError:
        return None
    return host if 0 < len(host) <= HOST_CHARS_MAX and host.isprintable() else None
