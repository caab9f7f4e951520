"""Price, settle, record, result: the right half of a call, shared by everything that is metered.

The caller gives a hold, the row so far and what the provider says was used; what comes back is the
`xproxy_result` for the answer. Missing usage is estimated and says so; a model without a price is
`unpriced`, never a silent zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from metering import audio, tokens
from metering.core import estimate
from metering.core.estimate import Learned
from metering.core.limits import Bounds, State
from metering.core.prices import PriceList, is_snapshot
from metering.core.record import UsageRow
from metering.core.result import result_json
from metering.ledger import Hold, Ledger
from metering.ledger.replies import states_of
from metering.providers import provider_of
from metering.providers.answer import bounded
from metering.providers.base import Ask, Usage
from pricing.cost import cost
from pricing.rates import Rates
from pricing.units import UNITS, UnitError, leaves

EARLIER_MAX = 4
"""So many price lists are kept that were in force: an answer may be restated that they priced."""
CHARACTERS_PER_TOKEN_MAX = 8
"""Delivered text has at least a token for so many characters: enough for a floor."""


class Priced(msgspec.Struct, frozen=True, gc=False):
    """Whose price applies to a call, found at admission and pinned to it."""

    provider: str
    model: str
    rates: Rates | None
    guessed: bool = False
    """The rates are another model's: this one has none."""
    prices: PriceList | None = None
    """Where they are from, and where what else the call turns out to be has its price."""


class Outcome(msgspec.Struct, frozen=True):
    """What a call came to."""

    row: UsageRow
    states: dict[str, State]
    """What each limit was left in; empty while that is not known."""
    result: bytes
    """The `xproxy_result` object, as JSON."""


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

    def price_of(
        self,
        application_id: str,
        provider: str,
        model: str,
        at_ms: int,
        prices: PriceList | None = None,
        *,
        estimate: bool = False,
    ) -> Priced:
        """The price of a model for an application at a time; `estimate`: else the dearest model's.

        By the list in force, unless another is given.
        """
        prices = prices or self.prices
        rates = prices.book.find(provider, model, at_ms)
        guessed = rates is None and estimate
        if guessed:
            rates = prices.book.dearest(provider, at_ms)
        if application_id in prices.own and rates is not None:
            rates = prices.own[application_id].of(rates, at_ms)
        return Priced(provider, model, rates, guessed, prices)

    async def settle(
        self, hold: Hold, ask: Ask, usage: Usage, admitted: Priced, tokens_asked: int
    ) -> Outcome:
        """Charge what was used and give the result."""
        row, usage = hold.row, bounded(usage)
        priced = self._true_price(row, usage, admitted)
        shown = _shown(ask, usage, priced)
        stated = bool(shown and shown is usage.counted)
        if usage.counts is not None:  # text is kept of an output that was not counted
            stated = not usage.output_text
        estimated = not (stated and usage.finished)
        counts = usage.counts or shown
        if usage.pending:
            counts = self._expected(row, ask, tokens_asked)
        elif estimated and not shown:
            counts = await self._estimate(usage, ask, admitted.model, tokens_asked)
        row = self.priced_row(row, usage, priced, counts, estimated=estimated)
        if not estimated and not shown:
            self._learn(row, ask, counts, tokens_asked)
        return self.outcome(row, await self.ledger.settle(hold, row, _total_tokens(counts)))

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
        row = msgspec.structs.replace(before, warnings=[])
        prices = self._earlier.get(before.price_version or "")
        priced = self.price_of(before.application_id, provider, model, before.at_ms, prices)
        truth = self.priced_row(row, usage, priced, counts, estimated=False)
        await self.ledger.amend(truth, _total_tokens(counts))

    async def release(self, hold: Hold, row: UsageRow) -> Outcome:
        """End a call that used nothing: a provider's error, or no connection."""
        return self.outcome(row, await self.ledger.release(hold, row))

    async def settle_free(self, hold: Hold, row: UsageRow) -> Outcome:
        """End a call that is not metered: it costs nothing, or nobody knows what."""
        row = msgspec.structs.replace(row, status="ok")
        return self.outcome(row, await self.ledger.settle(hold, row, 0))

    async def expire(self, hold: Hold, row: UsageRow) -> Outcome:
        """End a call whose truth nobody knows: what is certain of it is charged."""
        pico, count = hold.floor()
        row = msgspec.structs.replace(
            row, status="unresolved", estimated=True, cost_pico=pico, input_pico=pico
        )
        return self.outcome(row, await self.ledger.expire(hold, row, count))

    def outcome(self, row: UsageRow, charged: bytes | None) -> Outcome:
        """The result of a row; without limit states when Redis did not answer in time."""
        if charged is None:
            warnings = [*row.warnings, "limit states are not known yet"]
            row = msgspec.structs.replace(row, warnings=warnings)
        states = states_of(charged) if charged else {}
        return Outcome(row, states, result_json(row, states, unpriced=_unpriced(row)))

    # Pricing

    def _true_price(self, row: UsageRow, usage: Usage, admitted: Priced) -> Priced:
        """The model in the response decides, unless the caller was told to price as another."""
        if row.price_as_resource or usage.model is None or usage.model == admitted.model:
            return admitted
        found = self._also(row, admitted, usage.model)
        return found if found.rates is not None else admitted

    def _also(self, row: UsageRow, admitted: Priced, model: str) -> Priced:
        """The price of another model, by the list that the call was admitted with."""
        return self.price_of(
            row.application_id, admitted.provider, model, row.at_ms, admitted.prices
        )

    def _doubts(self, row: UsageRow, usage: Usage, priced: Priced) -> list[str]:
        """A warning, where the answer is of another model than was asked for, or than the caller
        says, and we know both."""
        answered = usage.model
        said = row.price_as_resource or row.model_requested
        if priced.rates is None or not answered or not said or said == answered:
            return []
        if row.price_as_resource is None and priced.rates.model == said:
            return []  # as most answers are, and then they are not looked up once more
        first, found = (self._also(row, priced, it).rates for it in (said, answered))
        if first is None or found is None or first.model == found.model:
            return []
        if row.price_as_resource is not None:
            return [f"the answer is {answered}'s; it is priced as {said}, as the call says"]
        if is_snapshot(said, answered):
            return []
        return [f"the answer is {answered}'s, and priced as that; the call asked for {said}"]

    def priced_row(
        self,
        row: UsageRow,
        usage: Usage,
        priced: Priced,
        counts: Mapping[str, int],
        *,
        estimated: bool,
    ) -> UsageRow:
        """The row of a call with its units and cost."""
        warnings = [*row.warnings, *self._doubts(row, usage, priced)]
        if usage.pending:
            warnings.append("the answer is still being made: the units are what it may come to")
        elif estimated:
            warnings.append("the provider did not say what was used: the units are estimated")
        units = _units(_with_request(counts, priced), warnings)
        tier, scope = usage.service_tier or row.service_tier, usage.scope or row.scope
        values: dict[str, Any] = {"pricing": "unpriced", "estimated": estimated}
        if priced.rates is None:
            warnings.append(f"no price is known for {priced.provider} {priced.model}")
        else:
            charged = cost(units, priced.rates, tier, scope)
            warnings += [f"no price is known for the unit {unit}" for unit in charged.unpriced]
            values = {
                "estimated": estimated,
                "lines": charged.lines,
                "input_pico": charged.input_pico,
                "output_pico": charged.output_pico,
                "cost_pico": charged.total_pico,
                "price_id": priced.rates.id,
                "price_version": None if priced.prices is None else priced.prices.version,
            }
            if priced.guessed:
                values |= {"pricing": "unpriced", "estimated": True}
                warnings.append(
                    f"no price is known for {priced.model}: charged as {priced.rates.id}"
                )
        for model, counted in usage.other_models.items():
            self._add_other(values, warnings, self._also(row, priced, model), counted)
        return msgspec.structs.replace(
            row,
            status="ok",
            model=priced.model if row.price_as_resource else usage.model or priced.model,
            provider_id=usage.provider_id or row.provider_id,
            service_tier=tier,
            scope=scope,
            units=units,
            warnings=warnings,
            **values,
        )

    @staticmethod
    def _add_other(
        values: dict[str, Any], warnings: list[str], other: Priced, counts: Mapping[str, int]
    ) -> None:
        """Add what another model cost that the answer used beside its own."""
        if other.rates is None:
            warnings.append(f"no price is known for {other.provider} {other.model}")
            return
        charged = cost(_units(counts, warnings), other.rates)
        lines = {f"{other.model}:{unit}": pico for unit, pico in charged.lines.items()}
        values["lines"] = values.get("lines", {}) | lines
        for name, pico in (
            ("input_pico", charged.input_pico),
            ("output_pico", charged.output_pico),
            ("cost_pico", charged.total_pico),
        ):
            values[name] = values.get(name, 0) + pico

    def _expected(self, row: UsageRow, ask: Ask, tokens_asked: int) -> dict[str, int]:
        """Counts of an answer that is not there yet, as at admission."""
        learned = self.learned.output_tokens(row.application_id, ask.model)
        each = estimate.likely_output(ask.max_output_tokens, learned)
        return _asked(ask, tokens_asked) | {"output": each * ask.choices}

    async def _estimate(
        self, usage: Usage, ask: Ask, model: str, tokens_asked: int
    ) -> dict[str, int]:
        """Counts of an answer without an end: what it said, and what was delivered."""
        counts = _asked(ask, tokens_asked) | dict(usage.counts or {})
        output = await tokens.count_all([usage.output_text], model) if usage.output_text else 0
        if usage.output_audio:
            heard_s = await audio.seconds(usage.output_audio)
            counts["output_audio"] = heard_s * estimate.AUDIO_TOKENS_PER_S["output"]
            output += counts["output_audio"]
        counts["output"] = max(output, counts.get("output", 0))
        return counts

    def bounds(
        self, row: UsageRow, ask: Ask, priced: Priced, tokens_asked: int, *, ceiling: bool
    ) -> Bounds:
        """What a call may cost: likely, and (for hard caps) at most. Without a price: tokens."""
        if not ask.model:
            return Bounds()
        if priced.rates is None:
            likely = tokens_asked + (ask.max_output_tokens or estimate.DEFAULT_OUTPUT_TOKENS)
            return Bounds(likely_tokens=likely, ceiling_tokens=likely)
        if not priced.rates.by_tokens:
            shown_pico = cost(_units(ask.counted, []), priced.rates).total_pico
            return Bounds(likely_pico=shown_pico, ceiling_pico=shown_pico)
        return estimate.bounds(
            priced.rates,
            input_tokens=tokens_asked + _heard(ask),
            prompt_bytes=ask.body_bytes,
            output_cap=ask.max_output_tokens,
            choices=ask.choices,
            service_tier=ask.service_tier,
            scope=row.scope,
            input_factor_ppm=self.learned.input_factor_ppm(ask.model),
            output_tokens=self.learned.output_tokens(row.application_id, ask.model),
            ceiling=ceiling,
        )

    @staticmethod
    def known(ask: Ask, priced: Priced) -> bool:
        """Whether what a successful call costs is known from the request alone."""
        rates = priced.rates
        return rates is not None and not rates.by_tokens and bool(ask.counted)

    def floor(self, ask: Ask, priced: Priced, usage: Usage, tokens_asked: int) -> tuple[int, int]:
        """What is certain of a call that was taken: its prompt, its delivered output."""
        counts = _asked(ask, tokens_asked) | dict(usage.counts or {})
        input_tokens = counts["input"]
        output_tokens = (
            counts.get("output", 0) or len(usage.output_text) // CHARACTERS_PER_TOKEN_MAX
        )
        if priced.rates is None:
            return 0, input_tokens + output_tokens
        if not priced.rates.by_tokens:
            return cost(_units(ask.counted, []), priced.rates).total_pico, 0
        pico = priced.rates.likely(input_tokens, output_tokens, ask.service_tier)
        return pico, input_tokens + output_tokens

    def _learn(self, row: UsageRow, ask: Ask, counts: Mapping[str, int], tokens_asked: int) -> None:
        self.learned.observe(
            row.application_id,
            ask.model,
            estimated_input=tokens_asked + _heard(ask),
            actual_input=counts.get("input", 0),
            output_tokens=counts.get("output", 0) // ask.choices,
            latency_ms=row.latency_ms or 0,
        )


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


def _with_request(counts: Mapping[str, int], priced: Priced) -> Mapping[str, int]:
    """The counts, and the call itself where it has a fee."""
    rates = priced.rates
    return {**counts, "requests": 1} if rates is not None and rates.by_call else counts


def _total_tokens(counts: Mapping[str, int]) -> int:
    return counts.get("input", 0) + counts.get("output", 0)


def _units(counts: Mapping[str, int], warnings: list[str]) -> dict[str, int]:
    """The billable units of counts; of those that do not fit together, the totals."""
    try:
        return leaves(counts)
    except UnitError as error:
        warnings.append(f"usage does not add up ({error}): only totals are charged")
        return leaves({name: counts.get(name, 0) for name in ("input", "output")})


def _unpriced(row: UsageRow) -> list[str]:
    """The units of a priced row that nobody charged for."""
    if row.price_id is None or len(row.units) == len(row.lines):
        return []
    return [
        unit
        for unit, count in row.units.items()
        if count and unit not in row.lines and not UNITS[unit].optional
    ]
