"""The `xproxy_result` block: its bytes, and how bytes of ours get into a provider's JSON.

Amounts are JSON numbers in plain digits, exact to the pico-dollar; nulls are left out; members
come in the order Pay-i sends them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from metering.core.limits import State
from metering.core.money import PICO_PER_USD
from metering.core.record import UsageRow
from pricing.units import is_input, wire_name

_SPACE = b" \t\r\n"
_OPEN, _CLOSE = b"{}"


class _State(msgspec.Struct, gc=False, omit_defaults=True):
    state: State
    resets_at: str | None = None


class _Base(msgspec.Struct, gc=False, omit_defaults=True):
    base: msgspec.Raw
    overrun_base: msgspec.Raw | None = None


class _Cost(msgspec.Struct, gc=False):
    currency: str
    input: _Base
    output: _Base
    total: _Base


class _Units(msgspec.Struct, gc=False):
    input: int
    output: int


class _Result(msgspec.Struct, gc=False, omit_defaults=True):
    request_id: str
    request_tags: list[str] = []
    limits: dict[str, _State] = {}
    experience_id: str | None = None
    use_case_name: str | None = None
    use_case_id: str | None = None
    use_case_step: str | None = None
    user_id: str | None = None
    account_name: str | None = None
    resource_id: str | None = None
    blocked_limit_ids: Sequence[str] = ()
    cost: _Cost | None = None
    unknown_units: dict[str, _Units] = {}
    duplicate_request: bool = False
    warnings: list[str] = []


_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def digits(amount_pico: int) -> bytes:
    """An amount in USD as plain decimal digits: no exponent, no trailing zeros, exact."""
    if 0 < amount_pico < PICO_PER_USD:  # as most costs of a call are
        return (b"0.%012d" % amount_pico).rstrip(b"0")
    whole, pico = divmod(abs(amount_pico), PICO_PER_USD)
    text = f"{whole}.{pico:012d}".rstrip("0") if pico else str(whole)
    return (b"-" if amount_pico < 0 else b"") + text.encode()


def result_json(
    row: UsageRow,
    states: Mapping[str, State] | None = None,
    *,
    blocked_limit_ids: Sequence[str] = (),
    unpriced: Sequence[str] = (),
    overrun_pico: int = 0,
    duplicate: bool = False,
    resets_at: Mapping[str, str] | None = None,
) -> bytes:
    """The JSON object `xproxy_result` of a row and the states its limits were left in.

    The cost is left out where there is none to state: of calls that were refused or failed, and
    where no price is known. `unpriced` are units of the row that have no price; `resets_at` says
    of limits by id when their windows end.
    """
    result = _Result(
        request_id=row.request_id,
        request_tags=row.tags,
        limits=_states(states, resets_at) if states else {},
        experience_id=row.use_case_id,  # its name until 2025; still sent then beside the new one
        use_case_name=row.use_case_name,
        use_case_id=row.use_case_id,
        use_case_step=row.use_case_step,
        user_id=row.user_id,
        account_name=row.account_name,
        resource_id=row.price_id,
        blocked_limit_ids=tuple(blocked_limit_ids),
        cost=_cost(row, overrun_pico) if _has_cost(row) else None,
        unknown_units=_unknown(row, unpriced) if unpriced else {},
        duplicate_request=duplicate,
        warnings=row.warnings,
    )
    return _encode(result)


def with_budgets(result: bytes) -> bytes:
    """A result for who calls limits budgets, their first name: under both names."""
    named = {
        first: limits
        for first, now in (("budgets", "limits"), ("blocked_budget_ids", "blocked_limit_ids"))
        if (limits := _members(result).get(now)) is not None
    }
    return splice_json(result, _encode(named)[1:-1]) or result if named else result


def _states(states: Mapping[str, State], resets_at: Mapping[str, str] | None) -> dict[str, _State]:
    if not resets_at:
        return {limit_id: _State(state) for limit_id, state in states.items()}
    return {limit_id: _State(state, resets_at.get(limit_id)) for limit_id, state in states.items()}


def _has_cost(row: UsageRow) -> bool:
    if row.cost_pico:
        return True
    return row.status == "ok" and row.pricing in ("priced", "free")


def _cost(row: UsageRow, overrun_pico: int) -> _Cost:
    overrun = msgspec.Raw(digits(overrun_pico)) if overrun_pico > 0 else None
    return _Cost(
        "usd",
        _Base(msgspec.Raw(digits(row.input_pico))),
        _Base(msgspec.Raw(digits(row.output_pico))),
        _Base(msgspec.Raw(digits(row.cost_pico)), overrun),
    )


def _unknown(row: UsageRow, unpriced: Sequence[str]) -> dict[str, _Units]:
    """Units without a price as Pay-i's clients name them: `text` for `text.input`."""
    found: dict[str, _Units] = {}
    for unit in unpriced:
        kind = wire_name(unit).removesuffix(".input").removesuffix(".output")
        before = found.get(kind) or _Units(0, 0)
        count = row.units.get(unit, 0)
        into, out = (count, 0) if is_input(unit) else (0, count)
        found[kind] = _Units(before.input + into, before.output + out)
    return found


def insertion(body: bytes, members: bytes) -> tuple[int, bytes] | None:
    """Where in a JSON object's text further members go, and as which bytes; None: no object.

    `members` is the inside of an object: `"a":1,"b":2`.
    """
    start, end = 0, len(body) - 1
    while end >= 0 and body[end] in _SPACE:  # by index: a body may be megabytes
        end -= 1
    while start < end and body[start] in _SPACE:
        start += 1
    if start >= end or body[start] != _OPEN or body[end] != _CLOSE:
        return None
    before = end - 1
    while body[before] in _SPACE:
        before -= 1
    return end, members if body[before] == _OPEN else b"," + members


def splice_json(body: bytes, members: bytes) -> bytes | None:
    """The body with `members` after its own top-level ones; None where it is no JSON object.

    Every byte of the body is kept.
    """
    place = insertion(body, members)
    if place is None:
        return None
    at, text = place
    return body[:at] + text + body[at:]


def splice_result(body: bytes, result: bytes) -> bytes | None:
    """The body with the member `xproxy_result`; None where it is no JSON object."""
    return splice_json(body, b'"xproxy_result":' + result)
