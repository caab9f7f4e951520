"""Price, settle, record, result: the right half of a call, shared by everything that is metered.

The caller gives a hold, the row so far and what the provider says was used; what comes back is the
`xproxy_result` for the answer. Missing usage is estimated and says so; a model without a price is
`unpriced`, never a silent zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from metering import audio, tokens
from metering.core import estimate
from metering.core.estimate import Learned
from metering.core.limits import Bounds, Floor, State
from metering.core.prices import Negotiated, PriceList
from metering.core.reach import Advice
from metering.core.record import UsageRow
from metering.core.result import result_json
from metering.ledger import Hold, Ledger, unresolved
from metering.ledger.replies import states_of
from metering.meter.pricing import (
    Priced,
    advisers,
    price_of,
    priced_row,
    true_price,
    units_of,
    unpriced_units,
    with_request,
)
from metering.providers import provider_of
from metering.providers.answer import bounded
from metering.providers.base import NOTHING, Ask, Usage
from pricing.cost import cost
from pricing.rates import Rates

EARLIER_MAX = 4
"""So many price lists are kept that were in force: an answer may be restated that they priced."""
CHARACTERS_PER_TOKEN_MAX = 8
"""Delivered text has at least a token for so many characters: enough for a floor."""


class Outcome(msgspec.Struct, frozen=True):
    """What a call came to."""

    row: UsageRow
    states: dict[str, State]
    """What each limit was left in; empty while that is not known."""
    result: bytes
    """The `xproxy_result` object, as JSON."""
    resets_at: Mapping[str, str]
    """When the windows end that its limits are in, by id; of nearly all calls, nothing."""


class Meter:
    """Prices calls from the list in force and settles them on one ledger."""

    def __init__(self, prices: PriceList, ledger: Ledger, learned: Learned) -> None:
        self.prices = prices
        self._earlier: dict[str, PriceList] = {}
        self.ledger = ledger
        self.learned = learned

    def use(self, prices: PriceList) -> None:
        """Price calls by another list from now on; those under way keep the one they have."""
        self._earlier[self.prices.version] = self.prices
        if len(self._earlier) > EARLIER_MAX:
            del self._earlier[next(iter(self._earlier))]
        self.prices = prices

    async def settle(
        self, hold: Hold, ask: Ask, usage: Usage, admitted: Priced, tokens_asked: int
    ) -> Outcome:
        """Charge what was used and give the result."""
        row, usage = hold.row, bounded(usage)
        priced = true_price(row, usage, admitted)
        shown = _shown(ask, usage, priced)
        stated = bool(shown and shown is usage.counted)
        if usage.counts is not None:  # text is kept of an output that was not counted
            stated = not usage.output_text
        estimated = not (stated and usage.finished)
        counts = usage.counts or shown
        if usage.pending:
            counts = self._expected(row, ask, tokens_asked)
        elif estimated and not shown:
            counts = await _delivered(usage, ask, admitted, tokens_asked)
        row = priced_row(row, usage, priced, counts, estimated=estimated)
        if not estimated and not shown:
            self._learn(row, ask, counts, tokens_asked)
        return self.outcome(hold, row, await self.ledger.settle(hold, row, _total_tokens(counts)))

    async def restate(self, looked: UsageRow, usage: Usage) -> None:
        """Charge an earlier call what a later answer says that it used, if it was estimated.

        `looked` is the call that got this answer. The earlier one is the application's own, known
        by the provider's id, and of the same host: nobody else can say what it used.
        """
        usage = bounded(usage)
        before = await self.ledger.call_of(
            looked.application_id, looked.category, usage.provider_id or ""
        )
        if before is None or not before.estimated or before.provider_host != looked.provider_host:
            return
        model = before.price_as_resource or usage.model or before.model or ""
        provider = provider_of(before.price_as_category, before.provider)
        counts = usage.counts or {}
        row = msgspec.structs.replace(before, warnings=[], limit_costs={})
        prices = self._list_of(before)
        own = prices.own.get(before.application_id) or Negotiated()
        priced = price_of(
            prices,
            before.application_id,
            provider,
            model,
            before.at_ms,
            credential=before.credential,
        )
        priced = msgspec.structs.replace(priced, limits=own.of_limits(before.limit_costs))
        truth = priced_row(row, usage, priced, counts, estimated=False)
        await self.ledger.amend(truth, _total_tokens(counts))

    def _list_of(self, row: UsageRow) -> PriceList:
        """The list that priced a row, with what is negotiated now; else the one in force."""
        version = row.price_version or ""
        if version == self.prices.version:
            return self.prices
        return self._earlier.get(version, self.prices)

    async def release(self, hold: Hold, row: UsageRow) -> Outcome:
        """End a call that used nothing: a provider's error, or no connection."""
        return self.outcome(hold, row, await self.ledger.release(hold, row))

    async def settle_free(self, hold: Hold, row: UsageRow) -> Outcome:
        """End a call that is not metered: it costs nothing, or nobody knows what."""
        row = msgspec.structs.replace(row, status="ok")
        return self.outcome(hold, row, await self.ledger.settle(hold, row, 0))

    async def expire(self, hold: Hold, row: UsageRow) -> Outcome:
        """End a call whose truth nobody knows: what is certain of it is charged."""
        floor = hold.floor()
        row = unresolved(row, floor)
        return self.outcome(hold, row, await self.ledger.expire(hold, row, floor.tokens))

    def outcome(self, hold: Hold, row: UsageRow, charged: bytes | None) -> Outcome:
        """The result of a row; without limit states when Redis did not answer in time."""
        if charged is None:
            warnings = [*row.warnings, "limit states are not known yet"]
            row = msgspec.structs.replace(row, warnings=warnings)
        states = states_of(charged) if charged else {}
        resets_at = hold.resets_at
        result = result_json(row, states, unpriced=unpriced_units(row), resets_at=resets_at)
        return Outcome(row, states, result, resets_at)

    def _expected(self, row: UsageRow, ask: Ask, tokens_asked: int) -> dict[str, int]:
        """Counts of an answer that is not there yet, as at admission."""
        learned = self.learned.output_tokens(row.application_id, ask.model)
        each = estimate.likely_output(ask.max_output_tokens, learned)
        return _asked(ask, tokens_asked) | {"output": each * ask.choices}

    def bounds(
        self, row: UsageRow, ask: Ask, priced: Priced, tokens_asked: int, *, ceiling: bool
    ) -> Bounds:
        """What a call may cost: likely, and (for hard caps) at most. Without a price: tokens."""
        if ask is NOTHING:
            return Bounds()
        if priced.rates is None:
            likely = tokens_asked + (ask.max_output_tokens or estimate.DEFAULT_OUTPUT_TOKENS)
            return Bounds(likely_tokens=likely, ceiling_tokens=likely)
        others = [(it, advice) for it, advice in advisers(row, priced, ask.reach) if it is not None]
        found = self._bounds(row, ask, priced.rates, tokens_asked, others, ceiling=ceiling)
        if not priced.limits:
            return found
        # what is counted beside tokens has a price at the limit's rates, if not at the call's
        counts = {} if priced.rates.by_tokens else units_of(ask.counted, [])
        owns = {
            limit_id: self._bounds(
                row,
                ask,
                own.of(priced.rates, row.at_ms),
                tokens_asked,
                [(own.of(it, row.at_ms), advice) for it, advice in others],
                counts=counts,
                ceiling=ceiling,
            )
            for limit_id, own in priced.limits
        }
        return msgspec.structs.replace(
            found,
            limits={name: (its.likely_pico, its.ceiling_pico) for name, its in owns.items()},
        )

    def unbounded(self, row: UsageRow, ask: Ask, priced: Priced) -> str | None:
        """Why nothing bounds what a call may cost, for the caller; None: its ceiling does."""
        if ask is NOTHING:
            return None
        if priced.rates is None:
            return ask.reach.unbounded or f"no price is known for {priced.provider} {priced.model}"
        counts = units_of(ask.counted, [])
        owns = [own.of(priced.rates, row.at_ms) for _, own in priced.limits]
        found = [
            estimate.unbounded(rates, ask.max_output_tokens, counts, ask.reach)
            for rates in (priced.rates, *owns)
        ]
        found += [estimate.unbounded_advice(*it) for it in advisers(row, priced, ask.reach)]
        return next((reason for reason in found if reason), None)

    def _bounds(
        self,
        row: UsageRow,
        ask: Ask,
        rates: Rates,
        tokens_asked: int,
        others: Sequence[tuple[Rates, Advice]],
        *,
        counts: Mapping[str, int] = MappingProxyType({}),
        ceiling: bool,
    ) -> Bounds:
        """The same at some rates. `others`: models that may be asked, at theirs; `counts`: units
        beside the tokens that are charged too."""
        if not rates.by_tokens:
            return Bounds(
                likely_pico=_shown_pico(ask.counted, rates),
                ceiling_pico=_shown_pico(_most_shown(ask), rates),
            )
        found = estimate.bounds(
            rates,
            input_tokens=tokens_asked + _heard(ask),
            prompt_bytes=ask.body_bytes,
            output_cap=ask.max_output_tokens,
            choices=ask.choices,
            service_tier=ask.service_tier,
            scope=row.scope,
            input_factor_ppm=self.learned.input_factor_ppm(ask.model),
            output_tokens=self.learned.output_tokens(row.application_id, ask.model),
            reach=ask.reach,
            counts=counts,
            ceiling=ceiling,
        )
        if not others:
            return found
        most = sum(estimate.most_for_advice(*it) for it in others)
        return msgspec.structs.replace(found, ceiling_pico=found.ceiling_pico + most)

    @staticmethod
    def known(ask: Ask, priced: Priced) -> bool:
        """Whether what a successful call costs is known from the request alone."""
        rates = priced.rates
        return rates is not None and not rates.by_tokens and bool(ask.counted)

    def floor(
        self, row: UsageRow, ask: Ask, priced: Priced, usage: Usage, tokens_asked: int
    ) -> Floor:
        """What is certain of a call that was taken: its prompt, its delivered output."""
        counts = _asked(ask, tokens_asked) | dict(usage.counts or {})
        into = counts["input"]
        out = counts.get("output", 0) or len(usage.output_text) // CHARACTERS_PER_TOKEN_MAX
        if priced.rates is None:
            return Floor(0, into + out)
        return Floor(
            _floor_pico(ask, priced.rates, into, out),
            into + out if priced.rates.by_tokens else 0,
            {
                limit_id: (_floor_pico(ask, own.of(priced.rates, row.at_ms), into, out), 0)
                for limit_id, own in priced.limits
            },
        )

    def _learn(self, row: UsageRow, ask: Ask, counts: Mapping[str, int], tokens_asked: int) -> None:
        self.learned.observe(
            row.application_id,
            ask.model,
            estimated_input=tokens_asked + _heard(ask),
            actual_input=counts.get("input", 0),
            output_tokens=counts.get("output", 0) // ask.choices,
            latency_ms=row.latency_ms or 0,
        )


async def _delivered(usage: Usage, ask: Ask, priced: Priced, tokens_asked: int) -> dict[str, int]:
    """Counts of an answer without an end: what it said, and what was delivered. What we count is
    at most what the call may have, by which a hard cap holds it: no model has our tokenizer."""
    counts = _asked(ask, tokens_asked) | dict(usage.counts or {})
    text, most = usage.output_text, _most_output(ask, priced.rates)
    output = await tokens.count_all([text], priced.model) if text else 0
    if usage.output_audio:
        heard_s = await audio.seconds(usage.output_audio)
        heard = heard_s * estimate.AUDIO_TOKENS_PER_S["output"]
        counts["output_audio"] = min(heard, most)
        output += heard
    counts["output"] = max(min(output, most), counts.get("output", 0))
    return counts


def _most_output(ask: Ask, rates: Rates | None) -> int:
    if rates is not None:
        return estimate.most_output(rates, ask.max_output_tokens, ask.choices, ask.reach)
    each = ask.max_output_tokens
    return (estimate.UNBOUNDED_TOKENS if each is None else each) * ask.choices


def _shown(ask: Ask, usage: Usage, priced: Priced) -> dict[str, int]:
    """What is charged of a model that is not priced by tokens, where the answer states no counts:
    what is to be seen of the units it is priced by; else what the request shows."""
    if usage.counts is not None or priced.rates is None or priced.rates.by_tokens:
        return {}
    return usage.counted or ask.counted


def _asked(ask: Ask, tokens_asked: int) -> dict[str, int]:
    """The counts of a prompt."""
    heard = _heard(ask)
    if not heard:
        return {"input": tokens_asked}
    return {"input": tokens_asked + heard, "input_audio": heard}


def _heard(ask: Ask) -> int:
    """The tokens of a prompt's recording."""
    if not ask.counted:
        return 0
    return ask.counted.get("audio_seconds", 0) * estimate.AUDIO_TOKENS_PER_S["input"]


def _most_shown(ask: Ask) -> dict[str, int]:
    """The units that the request itself shows, at most."""
    return {unit: max(n, ask.reach.fees.get(unit, 0)) for unit, n in ask.counted.items()}


def _shown_pico(counted: Mapping[str, int], rates: Rates) -> int:
    """What the units cost that the request itself shows."""
    return cost(units_of(with_request(counted, rates), []), rates).total_pico


def _floor_pico(ask: Ask, rates: Rates, into: int, out: int) -> int:
    """What is certain of a call at some rates, of which so many tokens are."""
    if not rates.by_tokens:
        return _shown_pico(ask.counted, rates)
    return rates.likely(into, out, ask.service_tier)


def _total_tokens(counts: Mapping[str, int]) -> int:
    return counts.get("input", 0) + counts.get("output", 0)
