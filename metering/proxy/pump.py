"""A provider call between admission and settlement: reads the provider, feeds the client, settles.

It is not tied to the client: when that leaves, it reads on (or closes and estimates, as the call
asked), so that every call is settled, once. It is never cancelled.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
import structlog

from metering.core.headers import from_provider, scrub
from metering.core.limits import Floor
from metering.core.origins import of_field
from metering.core.record import UsageRow
from metering.core.result import digits, splice_result, with_budgets
from metering.errors import (
    OurFault,
    ProviderFault,
    ProviderGarbage,
    StoreAway,
    XproxyError,
)
from metering.ledger import Hold
from metering.meter import Meter, Outcome
from metering.providers.base import StreamTap, Usage
from metering.proxy.call import Call, Headers
from metering.proxy.encodings import READABLE, decoded, inflated, inflater
from metering.proxy.exchange import Exchange
from metering.proxy.source import Source, given_in, in_time
from metering.settings import Settings
from metering.surfaces.base import request_headers, resets_header
from metering.translate.base import Answers
from metering.upstream import Reply, Upstream

log = structlog.get_logger()


LARGE = 4
"""Answers that are not spliced are read for their usage up to so many times the size of those that
are. What is translated is read whole, up to that."""
ERROR_BYTES_MAX = 1 << 20
"""How large a compressed error may become."""


class Unserved(NamedTuple):
    """An answer that is no 2xx, not given yet: another target may be tried."""

    status: int
    headers: Headers
    body: bytes


class Pump:
    """One provider call."""

    def __init__(
        self,
        call: Call,
        hold: Hold,
        *,
        upstream: Upstream,
        meter: Meter,
        settings: Settings,
        clock_s: Callable[[], float],
        client: Exchange,
        patient: bool = False,
    ) -> None:
        """`patient`: a client that leaves is no reason to stop."""
        self._call = call
        self._hold = hold
        self._client = client
        self._upstream = upstream
        self._meter = meter
        self._settings = settings
        self._clock_s = clock_s
        self._ttft_ms: int | None = None
        draining = call.annotations.on_disconnect == "drain"
        self._source = Source(client, settings, draining=draining, patient=patient)

    async def run(self) -> bool | Unserved:
        """See the call through; whether its answer came whole. Raises what its client is to be
        told instead of an answer."""
        self._client.on_gone = self._source.client_left
        if self._client.gone:
            self._source.client_left()
        try:
            broken = await self._run()
        except XproxyError:
            raise
        except Exception as bug:  # of ours: the hold is let go, the reaper books the call
            log.exception("pump_failed", request_id=self._hold.row.request_id)
            self._meter.ledger.abandon(self._hold)
            raise OurFault(should_retry=False) from bug
        finally:
            # who knows us is to forget us: a call in a circle would wait for the collector
            self._client.on_gone = None
            self._hold.floor = Floor
        if isinstance(broken, Unserved):
            return broken
        self._client.finish(broken=broken)
        return not broken

    async def _run(self) -> bool | Unserved:
        try:
            reply = await self._sent()
            self._source.body = reply.stream
            try:
                self._ttft_ms = self._elapsed_ms()
                return await self._relay(reply)
            finally:
                await reply.stream.aclose()
        except ProviderFault as fault:
            await self._no_answer(fault)
            if self._call.host_field is not None:
                raise of_field(fault, self._call.host_field) from fault.__cause__
            raise

    def _sent(self) -> Awaitable[Reply]:
        call = self._call
        reply = self._upstream.send(call.method, call.url, call.headers, call.body, call.addresses)
        return reply if call.timeout_ms is None else in_time(reply, call.timeout_ms)

    def _relay(self, reply: Reply) -> Awaitable[bool | Unserved]:
        call = self._call
        if not 200 <= reply.status < 300:
            return self._provider_error(reply)
        if not call.metered:
            return self._pass_through(reply)
        kind = _header(reply, b"content-type")
        if b"event-stream" in kind:
            return self._stream(reply)
        self._hold.floor = lambda: self._floor(Usage())
        if call.ask.plain and not kind.startswith((b"application/json", b"text/")):
            return self._sound(reply)
        return self._whole(reply)

    # The kinds of answer; each says whether it was cut

    async def _whole(self, reply: Reply) -> bool:
        """JSON, or a text: read, settled, and given with its result."""
        answers, size_max = self._call.answers, self._settings.json_bytes_max
        if answers is not None:
            size_max *= LARGE
        body, whole = await self._source.read(size_max)
        if not whole and answers is None:
            return await self._large(reply, body)
        plain = decoded(body, _header(reply, b"content-encoding"), size_max)
        usage = self._usage(plain or b"")
        if plain is None or not usage.finished:
            raise ProviderGarbage(should_retry=False)
        outcome = await self._settle(usage, reply.status)
        off = self._call.annotations.result_off
        changed = not off
        if answers is not None:
            body = plain = _translated(answers, plain)
            changed = True
        headers = self._headers(reply, changed=changed) + await self._about_cost(outcome)
        given = body if off else splice_result(plain, self._result(outcome)) or plain
        self._client.respond(reply.status, headers, given)
        return False

    async def _about_cost(self, outcome: Outcome) -> Headers:
        """What the headers say of a cost that is known before they go."""
        headers = cost_headers(outcome)
        call = self._call
        if call.surface.tells_what_is_left:
            caps = [it for it in call.limits if it.binding]
            with contextlib.suppress(StoreAway):
                totals = await self._meter.ledger.present(caps) if caps else []
                left = [(it, it.max - its.settled) for it, its in zip(caps, totals, strict=True)]
                headers += call.surface.about_cost(outcome.row.cost_pico, left)
        return headers

    async def _large(self, reply: Reply, body: bytes) -> bool:
        """Too large to splice: relayed as it comes, read for usage up to four times the size."""
        self._client.start(reply.status, self._unchanged(reply))
        await self._client.piece(body)
        size_max = LARGE * self._settings.json_bytes_max
        whole, cut = await self._source.pass_on(body, size_max, self._client.piece)
        if cut:
            await self._meter.expire(self._hold, self._done(reply.status))
            return True
        plain = decoded(whole or b"", _header(reply, b"content-encoding"), size_max)
        await self._settle(self._usage(plain or b""), reply.status)
        return False

    async def _sound(self, reply: Reply) -> bool:
        """Sound: relayed as it comes. A cost that the request alone decides is charged before, and
        said in the headers."""
        headers = self._unchanged(reply)
        known = self._meter.known(self._call.ask, self._call.priced)
        if known:
            headers += cost_headers(await self._settle(self._usage(b""), reply.status))
        self._client.start(reply.status, headers)
        heard, cut = await self._source.pass_on(
            b"", self._settings.json_bytes_max, self._client.piece
        )
        if not known:
            usage = self._usage(heard or b"")
            usage = msgspec.structs.replace(usage, finished=usage.finished and not cut)
            await self._settle(usage, reply.status)
        return cut

    async def _stream(self, reply: Reply) -> bool:
        tap = self._call.dialect.tap(self._call.endpoint, self._call.ask)
        encoding = _header(reply, b"content-encoding")
        if encoding not in READABLE:
            return await self._unreadable(reply, tap.usage())
        self._hold.floor = lambda: self._floor(tap.usage())
        inflate = inflater(encoding)
        answers = self._call.answers
        form = None if answers is None else answers.stream()
        give = self._client.piece if form is None else given_in(form, self._client)
        self._client.start(reply.status, self._headers(reply, changed=True))
        settled = cut = False
        try:
            async for chunk in self._source.chunks():
                for plain in (chunk,) if inflate is None else inflated(inflate, chunk):
                    await give(tap.feed(plain))
                    if tap.ready and not settled:
                        settled = True
                        await give(await self._splice(tap, reply.status))
        except (ProviderFault, zlib.error):
            cut = True
        await give(tap.finish())
        if not settled:
            await give(await self._splice(tap, reply.status))
        if form is not None:
            await self._client.piece(form.finish(cut=cut))
        return cut

    async def _unreadable(self, reply: Reply, usage: Usage) -> bool:
        """A stream in an encoding that we cannot undo: relayed as it is, charged as `usage` has it,
        which knows of nothing. What should have been translated cannot be told."""
        if self._call.answers is not None:
            raise ProviderGarbage(should_retry=False)
        self._client.start(reply.status, self._unchanged(reply))
        _, cut = await self._source.pass_on(b"", 0, self._client.piece)
        await self._settle(usage, reply.status)
        return cut

    async def _splice(self, tap: StreamTap, status: int) -> bytes:
        outcome = await self._settle(tap.usage(), status)
        return tap.splice(None if self._call.annotations.result_off else self._result(outcome))

    async def _pass_through(self, reply: Reply) -> bool:
        """An endpoint that is not metered: relayed as it is, recorded at its end."""
        if self._call.answers is not None:
            return await self._listed(reply, self._call.answers)
        self._client.start(reply.status, self._unchanged(reply))
        restates = self._call.endpoint.restates
        kept_max = self._settings.json_bytes_max if restates else 0
        body, cut = await self._source.pass_on(b"", kept_max, self._client.piece)
        await self._meter.settle_free(self._hold, self._done(reply.status))
        if body:
            self._client.finish(broken=cut)  # it need not wait for what follows
            await self._restate(reply, body)
        return cut

    async def _listed(self, reply: Reply, answers: Answers) -> bool:
        """The same in another form: a list of models."""
        size_max = self._settings.json_bytes_max
        body, whole = await self._source.read(size_max)
        await self._meter.settle_free(self._hold, self._done(reply.status))
        plain = decoded(body, _header(reply, b"content-encoding"), size_max)
        if plain is None or not whole:
            raise ProviderGarbage(should_retry=False)
        given = _translated(answers, plain)
        self._client.respond(reply.status, self._headers(reply, changed=True), given)
        return False

    async def _restate(self, reply: Reply, body: bytes) -> None:
        """Have an earlier call charged what this answer says that it used."""
        call = self._call
        plain = decoded(body, _header(reply, b"content-encoding"), self._settings.json_bytes_max)
        if b"event-stream" in _header(reply, b"content-type"):
            tap = call.dialect.tap(call.endpoint, call.ask)
            tap.feed(plain or b"")
            usage = tap.usage()
        else:
            usage = call.dialect.read(call.endpoint, plain or b"")
        if usage.counts is None or not usage.finished:
            return
        try:
            await self._meter.restate(call.row, usage)
        except StoreAway as fault:  # it may be looked at again
            log.warning("usage_not_restated", provider_id=usage.provider_id, reason=str(fault))

    async def _provider_error(self, reply: Reply) -> Unserved:
        try:
            body, _ = await self._source.read(self._settings.json_bytes_max)
        except ProviderFault:  # it said what it is before it broke off
            body = b""
        body = decoded(body, _header(reply, b"content-encoding"), ERROR_BYTES_MAX) or b""
        if self._call.stored_key is not None:
            body = scrub(body, self._call.stored_key)
        row = msgspec.structs.replace(
            self._done(reply.status), status="failed", error_code="provider_error"
        )
        outcome = await self._meter.release(self._hold, row)
        status = reply.status
        if self._call.answers is not None:
            body = self._call.answers.error(status, body)
        if self._call.metered and not self._call.annotations.result_off:
            body = self._call.surface.provider_error(status, body, self._result(outcome))
        return Unserved(status, self._headers(reply, changed=True), body)

    async def _no_answer(self, fault: ProviderFault) -> None:
        """No connection, a broken one, silence, or what is no answer: once a byte was sent, nobody
        knows the cost."""
        row = msgspec.structs.replace(
            self._done(fault.status), status="failed", error_code=fault.code
        )
        if fault.sent and self._call.metered:
            await self._meter.expire(self._hold, row)
        else:
            await self._meter.release(self._hold, row)

    def _usage(self, body: bytes) -> Usage:
        return self._call.dialect.read(self._call.endpoint, body, self._call.ask)

    # Settling and telling

    def _result(self, outcome: Outcome) -> bytes:
        said = self._call.annotations
        return with_budgets(outcome.result) if said.as_budgets else outcome.result

    def _settle(self, usage: Usage, status: int) -> Awaitable[Outcome]:
        self._hold.row = self._done(status)
        return self._meter.settle(
            self._hold, self._call.ask, usage, self._call.priced, self._call.tokens_asked
        )

    def _floor(self, usage: Usage) -> Floor:
        call = self._call
        return self._meter.floor(call.row, call.ask, call.priced, usage, call.tokens_asked)

    def _done(self, status: int) -> UsageRow:
        return msgspec.structs.replace(
            self._hold.row,
            http_status=status,
            latency_ms=self._elapsed_ms(),
            ttft_ms=self._ttft_ms,
        )

    def _elapsed_ms(self) -> int:
        return round((self._clock_s() - self._call.started_s) * 1000)

    def _unchanged(self, reply: Reply) -> Headers:
        """The headers of an answer whose body is relayed as it is."""
        length = _header(reply, b"content-length")
        sized = [(b"content-length", length)] if length else []
        return self._headers(reply, changed=False) + sized

    def _headers(self, reply: Reply, *, changed: bool) -> Headers:
        return [
            *from_provider(reply.headers, body_changed=changed, stored_key=self._call.stored_key),
            *request_headers(self._hold.row.request_id),
            *self._call.told,
        ]


def cost_headers(outcome: Outcome) -> Headers:
    """The headers of an answer whose cost is known before it goes."""
    cost = digits(outcome.row.cost_pico)
    headers = [(b"xproxy-cost", cost), (b"x-litellm-response-cost", cost)]
    if outcome.states:
        states = ",".join([f"{limit_id}={state}" for limit_id, state in outcome.states.items()])
        headers.append((b"xproxy-limits", states.encode()))
    if outcome.resets_at:
        headers.append(resets_header(outcome.resets_at))
    return headers


def _translated(answers: Answers, plain: bytes) -> bytes:
    """An answer in the client's form. What it was charged for stays charged if it has none."""
    given = answers.whole(plain)
    if given is None:
        raise ProviderGarbage(should_retry=False)
    return given


def _header(reply: Reply, name: bytes) -> bytes:
    for key, value in reply.headers:
        if key == name:
            return value
    return b""
