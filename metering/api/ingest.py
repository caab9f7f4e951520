"""`/ingest`: calls that were made elsewhere, reported one by one or many at once."""

import asyncio
from typing import Annotated, Any, cast

import msgspec
from litestar import Controller, Response, post
from litestar.params import JSONBody, QueryParameter

from metering.api.faults import of_types
from metering.api.ingest_shapes import (
    BulkFault,
    BulkIngestResponse,
    IngestEvent,
    IngestResponse,
    Reporter,
    annotated,
    fault_object,
    reported,
)
from metering.api.requests import result_of
from metering.api.server import ApiRequest, ExactResponse
from metering.api.text import moment
from metering.core.annotations import annotate, logging_disabled
from metering.core.ids import uuid7_text_ms
from metering.core.result import with_budgets
from metering.directory import Caller
from metering.errors import BodyTooLarge, InvalidRequest, NotAllowed, OurFault, XproxyError
from metering.meter import Known, Outcome, Reported

REPORT_BYTES_MAX = 32 * 1024 * 1024
"""Of one call or of many: what was said in it comes along, however much of that is kept."""
EVENTS_MAX = 10_000
"""So many calls one request may report: some seconds of work."""
AT_ONCE = 512
"""So many of them are taken together."""
PAUSE_EVERY = 64
"""So many are read without a pause: calls of others come first."""


class IngestController(Controller):
    """Report calls."""

    path = "/ingest"
    tags = ("ingest",)

    @post(status_code=200, request_max_body_size=REPORT_BYTES_MAX)
    async def one(
        self,
        request: ApiRequest,
        data: JSONBody[IngestEvent],
        event_id: Annotated[str | None, QueryParameter(name="id")] = None,
    ) -> IngestResponse:
        """Report a call; `id`, or else the provider's id of it, makes sure that it counts once."""
        caller, by = _reporter(request)
        said = annotated(data, annotate([*request.scope["headers"]]))
        services = request.services
        report = reported(data, said, by, services.random(10), event_id)
        [taken] = await services.reports.take(services.store, caller, [report], by.now_ms)
        if isinstance(taken, XproxyError):
            raise taken
        if isinstance(taken, Known):
            request_id = taken.request_id
            result = await result_of(request, request_id, duplicate=True)
            if result is None:
                raise OurFault("this call is being charged; ask again")
        else:
            request_id, result = taken.row.request_id, msgspec.Raw(taken.result)
        if said.as_budgets:
            result = msgspec.Raw(with_budgets(bytes(result)))
        return IngestResponse(
            request_id=request_id,
            ingest_timestamp=moment(by.now_ms),
            event_timestamp=moment(uuid7_text_ms(request_id)),
            xproxy_result=result,
        )

    @post("/bulk", status_code=200, request_max_body_size=REPORT_BYTES_MAX)
    async def many(self, request: ApiRequest) -> Response[BulkIngestResponse]:
        """Report many calls; each is taken or refused for itself. 400 if not one was taken."""
        return await _take(request, upsert=False)

    @post("/bulk-upsert", status_code=200, request_max_body_size=REPORT_BYTES_MAX)
    async def upsert(self, request: ApiRequest) -> Response[BulkIngestResponse]:
        """Report many calls by their provider's id; what was reported before is corrected."""
        return await _take(request, upsert=True)


def _reporter(request: ApiRequest) -> tuple[Caller, Reporter]:
    """Who reports, if he may."""
    acting, caller = request.user, cast(Caller, request.auth)
    if not caller.may("ingest"):
        raise NotAllowed("Reporting calls needs a key with the permission `ingest`")
    if caller.application_id != acting.application_id:
        caller = msgspec.structs.replace(caller, application_id=acting.application_id)
    by = Reporter(
        application_id=caller.application_id,
        key_id=caller.key_id,
        now_ms=request.services.clock(),
        logging=request.services.archive.takes
        and not logging_disabled([*request.scope["headers"]]),
    )
    return caller, by


class _Counts(msgspec.Struct):
    new: int = 0
    duplicates: int = 0
    corrected: int = 0


async def _take(request: ApiRequest, *, upsert: bool) -> Response[BulkIngestResponse]:
    caller, by = _reporter(request)
    events = await _events(request)
    counts, errors = _Counts(), []
    for start in range(0, len(events), AT_ONCE):
        reports: dict[int, Reported] = {}
        for index in range(start, min(start + AT_ONCE, len(events))):
            if index % PAUSE_EVERY == 0:
                await asyncio.sleep(0)
            try:
                reports[index] = _report(request, events[index], by, upsert=upsert)
            except XproxyError as fault:
                errors.append(BulkFault(item_index=index, xproxy_result=fault_object(fault)))
        errors += await _taken(request, caller, reports, counts, upsert=upsert)
    errors.sort(key=lambda it: it.item_index)
    answer = BulkIngestResponse(
        request_id=request.request_id,
        ingest_timestamp=moment(by.now_ms),
        ingest_count=counts.new,
        duplicate_count=counts.duplicates,
        corrected_count=counts.corrected,
        error_count=len(errors),
        item_error_count=len(errors),
        total_count=len(events),
        errors=errors,
    )
    if len(errors) < max(1, len(events)):
        return ExactResponse(answer)
    first = errors[0].xproxy_result  # an ApiError beside the counts, for whoever reads no further
    return ExactResponse({**msgspec.structs.asdict(answer), **first}, status_code=400)


async def _events(request: ApiRequest) -> list[Any]:
    if await request.is_empty():
        return []
    body = await request.json()
    if not isinstance(body, list):
        raise InvalidRequest("The body must be an array of events", field="events")
    if len(body) > EVENTS_MAX:
        raise BodyTooLarge(f"One request reports at most {EVENTS_MAX} calls: send several")
    return body


def _report(request: ApiRequest, event: Any, by: Reporter, *, upsert: bool) -> Reported:
    try:
        known = msgspec.convert(event, IngestEvent)
    except msgspec.ValidationError as error:
        raise of_types(error) from None
    if upsert and not known.provider_response_id:
        raise InvalidRequest(
            "Required request field 'provider_response_id' is missing",
            code="required_field_missing",
            field="provider_response_id",
        )
    return reported(known, annotated(known), by, request.services.random(10))


async def _taken(
    request: ApiRequest,
    caller: Caller,
    reports: dict[int, Reported],
    counts: _Counts,
    *,
    upsert: bool,
) -> list[BulkFault]:
    """Take some of the reports; gives the faults of those that were refused."""
    services, faults = request.services, []
    now_ms = services.clock()
    took = await services.reports.take(services.store, caller, [*reports.values()], now_ms)
    for index, taken in zip(reports, took, strict=True):
        if isinstance(taken, Outcome):
            counts.new += 1
        elif isinstance(taken, XproxyError):
            faults.append(BulkFault(item_index=index, xproxy_result=fault_object(taken)))
        elif upsert and await services.reports.correct(
            services.store,
            caller,
            reports[index],
            taken.request_id,
            run=f"{request.request_id}-{index:05}",
            now_ms=now_ms,
        ):
            counts.corrected += 1
        else:
            counts.duplicates += 1
    return faults
