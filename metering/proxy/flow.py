"""The life of a call, as one line:

    plan (authenticate, annotate, price) - estimate - reserve - forward - tap - settle - respond

Each step takes the frozen value of the step before. From `forward` on it is the pump's. A call has
one task, which its client's leaving does not end: whoever leaves, the call is settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from metering.core.ids import uuid7_text
from metering.core.limits import Refused
from metering.core.rates import Throttled
from metering.core.result import result_json, with_budgets
from metering.errors import OurFault, ProviderFault, RateLimited, XproxyError
from metering.ledger import Ledger
from metering.ledger.replies import blocked
from metering.meter import Meter
from metering.proxy.call import Call
from metering.proxy.exchange import ClientLeft, Copy, Exchange
from metering.proxy.journey import Journey
from metering.proxy.plan import Planner
from metering.proxy.pump import Pump, Unserved
from metering.proxy.request import Request
from metering.replays import ANSWER_BYTES_MAX, REPLAYED, Answer, Replays, checked
from metering.settings import Settings
from metering.surfaces.portkey import RETRIES
from metering.upstream import Upstream

log = structlog.get_logger()


class Flow:
    """The data plane of one worker."""

    def __init__(
        self,
        *,
        settings: Settings,
        planner: Planner,
        ledger: Ledger,
        meter: Meter,
        upstream: Upstream,
        replays: Replays,
        clock_ms: Callable[[], int],
        clock_s: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._planner = planner
        self._ledger = ledger
        self._meter = meter
        self._upstream = upstream
        self._replays = replays
        self._clock_ms = clock_ms
        self._clock_s = clock_s
        self._random = random
        self._loop = asyncio.get_running_loop()  # kept: asking for it costs a system call
        self._calls: set[asyncio.Task[None]] = set()
        self._calls_by_key: dict[str | None, int] = {}

    def begin(self, exchange: Exchange) -> asyncio.Task[None]:
        """Serve a call, whoever leaves; every fault is answered in the surface's grammar."""
        task = self._loop.create_task(self._answer(exchange))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def _answer(self, exchange: Exchange) -> None:
        now_ms, started_s = self._clock_ms(), self._clock_s()
        request_id = uuid7_text(now_ms, self._random(10))
        try:
            await self._serve(exchange, request_id, now_ms, started_s)
        except XproxyError as fault:
            self._fail(exchange, fault, request_id)
        except ClientLeft:
            return
        except Exception:  # a bug of ours: the caller gets an answer, the log the trace
            log.exception("flow_failed", request_id=request_id)
            self._fail(exchange, OurFault(retry_after_s=1), request_id)

    async def _serve(
        self, exchange: Exchange, request_id: str, now_ms: int, started_s: float
    ) -> None:
        exchange.told = exchange.surface.about_request(exchange.headers, request_id)
        request = await self._planner.hear(
            exchange, request_id=request_id, now_ms=now_ms, started_s=started_s
        )
        journey = Journey(request, self._planner, self._meter, self._random)
        call = await journey.first()
        key_id = call.caller.key_id
        self._calls_by_key[key_id] = self._admit(key_id)
        try:
            key = _idempotency_key(call, exchange)
            if key is None:
                await self._make(exchange, call, journey)
            else:
                once = checked(key), await _asked(request, call)
                await self._make_once(exchange, call, journey, once)
        finally:
            self._leave(key_id)

    async def _make_once(
        self,
        exchange: Exchange,
        call: Call,
        journey: Journey,
        once: tuple[bytes, tuple[bytes, ...]],
    ) -> None:
        """A call that is made once, however often it comes: see `replays`. `once`: its key, and
        what it asks for."""
        key, asked = once
        request = (exchange.method.encode(), exchange.raw_path, exchange.query, *asked)
        claim = await self._replays.claim(call.row, key, request)
        if isinstance(claim, Answer):
            exchange.respond(claim.status, [*claim.headers, REPLAYED], claim.body)
            return
        exchange.copy = copy = Copy(ANSWER_BYTES_MAX)
        try:
            whole = await self._make(exchange, call, journey, patient=True)
        except XproxyError as fault:
            if not _may_have_used(fault):
                await self._replays.give_back(claim)
            raise
        if not 200 <= copy.status < 300:
            await self._replays.give_back(claim)
        elif whole and copy.body is not None:
            await self._replays.keep(claim, Answer(copy.status, copy.headers, copy.body))

    async def _make(
        self, exchange: Exchange, call: Call, journey: Journey, *, patient: bool = False
    ) -> bool:
        """Attempt after attempt, until one is answered or none is left, whose failure is the
        answer, or the client has left meanwhile; whether the answer came whole. `patient`: a client
        that leaves is no reason to stop an attempt."""
        while True:
            try:
                failed = await self._attempt(exchange, call, patient=patient)
            except (ProviderFault, RateLimited) as fault:
                following = None
                if not (exchange.started or exchange.gone):
                    following = await journey.after(fault.status)
                if following is None or exchange.gone:
                    raise
            else:
                if isinstance(failed, bool):
                    return failed
                following = None
                if not exchange.gone:
                    after = dict(failed.headers).get(b"retry-after", b"")
                    following = await journey.after(failed.status, after)
                if following is None or exchange.gone:
                    exchange.respond(*_ended(failed, journey))
                    return True
            call = following

    async def _attempt(self, exchange: Exchange, call: Call, *, patient: bool) -> bool | Unserved:
        """Estimate, reserve, forward, settle, respond; whether the answer came whole."""
        exchange.told = call.told
        hard = "hard" in [limit.mode for limit in call.limits]
        bounds = self._meter.bounds(
            call.row, call.ask, call.priced, call.tokens_asked, ceiling=hard
        )
        verdict = await self._ledger.reserve(
            call.row,
            call.limits,
            bounds,
            expected_ms=self._meter.learned.latency_ms(call.row.application_id, call.ask.model),
            rates=call.caller.rates,
        )
        if isinstance(verdict, Throttled):
            raise _rate_limited(verdict)
        if isinstance(verdict, Refused):
            return self._refusal(call, verdict)
        pump = Pump(
            call,
            verdict,
            upstream=self._upstream,
            meter=self._meter,
            settings=self._settings,
            clock_s=self._clock_s,
            client=exchange,
            patient=patient,
        )
        return await pump.run()

    def _admit(self, key_id: str | None) -> int:
        """How many calls of a key are under way with a new one; raises RateLimited for too many."""
        calls = self._calls_by_key.get(key_id, 0) + 1
        if calls > self._settings.key_calls_max:
            raise RateLimited(
                f"this key has {calls - 1} calls under way, as many as XPROXY_KEY_CALLS_MAX allows "
                "in one worker; retry when one has ended",
                code="too_many_concurrent_requests",
                retry_after_s=1,
                should_retry=True,
            )
        return calls

    def _leave(self, key_id: str | None) -> None:
        calls = self._calls_by_key.pop(key_id) - 1
        if calls:
            self._calls_by_key[key_id] = calls

    def _refusal(self, call: Call, refused: Refused) -> Unserved:
        row = blocked(call.row, refused.refusals)
        result = result_json(
            row,
            refused.states,
            blocked_limit_ids=refused.blocked_limit_ids,
            resets_at=refused.resets_at,
        )
        budgets = call.annotations.as_budgets
        status, headers, body = call.surface.refusal(
            refused,
            row.request_id,
            with_budgets(result) if budgets else result,
            self._settings.budget_status,
            budgets=budgets,
            limit_ids=call.caller.limit_ids,
        )
        spent = call.surface.about_spend(refused, call.limits, call.caller.limit_ids)
        told = dict(call.told) | dict(spent)
        return Unserved(status, [*headers, *told.items()], body)

    def _fail(self, exchange: Exchange, fault: XproxyError, request_id: str) -> None:
        if exchange.started:
            exchange.finish(broken=True)  # the client must see that it was cut
        else:
            status, headers, body = exchange.surface.error(fault, request_id)
            exchange.respond(status, [*(dict(exchange.told) | dict(headers)).items()], body)

    @property
    def running(self) -> int:
        """How many calls are under way."""
        return len(self._calls)

    async def finish(self, within_s: float) -> None:
        """Wait for the calls under way: their clients may have gone, their costs have not."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=max(0.0, within_s))


def _idempotency_key(call: Call, exchange: Exchange) -> bytes | None:
    """The key of a call that is to be made once, if it is one."""
    if not call.caller.idempotent or call.method in ("GET", "HEAD"):
        return None
    return next((value for name, value in exchange.headers if name == b"idempotency-key"), None)


async def _asked(request: Request, call: Call) -> tuple[bytes, ...]:
    """What tells one call from another beside its path. Where a plan makes something of it, that
    may differ each time: then it is what came, and what headers say of where it goes."""
    if request.provider:
        return (call.body,)
    return await request.body(), request.said.where()


def _ended(failed: Unserved, journey: Journey) -> Unserved:
    """The answer to a call whose last attempt failed: it says if it was made as often as may be."""
    if not journey.exhausted:
        return failed
    told = [(name, b"-1" if name == RETRIES else value) for name, value in failed.headers]
    return failed._replace(headers=told)


def _may_have_used(fault: XproxyError) -> bool:
    """Whether something may have been charged for a call that ended with this."""
    if isinstance(fault, ProviderFault):
        return fault.sent
    return isinstance(fault, OurFault) and fault.should_retry is False


def _rate_limited(throttled: Throttled) -> RateLimited:
    """The answer to a call that came too soon, in the words of OpenAI's and Anthropic's headers."""
    kind, retry_s = throttled.rate.kind, throttled.retry_s
    fault = RateLimited(
        throttled.message,
        code="rate_limit_exceeded",
        retry_after_s=None if throttled.final else retry_s,
        should_retry=not throttled.final,
    )
    fault.headers = (
        (f"x-ratelimit-limit-{kind}", str(throttled.rate.max)),
        (f"x-ratelimit-remaining-{kind}", str(throttled.remaining)),
        (f"x-ratelimit-reset-{kind}", f"{retry_s}s"),
    )
    return fault
