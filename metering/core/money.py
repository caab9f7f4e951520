"""Money: one pico-USD, a Python `int`. No float ever touches an amount.

1 USD = 10**12 pico. In Redis an amount is two integers (whole USD floored, pico 0..10**12-1), so
that every Lua number stays below 2**53. Rounding happens once per cost line, in `pricing.cost`.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation

from metering.errors import InvalidRequest

PICO_PER_USD = 10**12
USD_MAX = 10**12
"""The largest amount the API accepts, in whole USD."""
EXACT = Context(prec=64, traps=[Inexact, InvalidOperation])
"""Arithmetic that refuses to round: the default context would silently keep 28 digits."""


def split(amount_pico: int) -> tuple[int, int]:
    """An amount as (whole, pico), whole floored: -1 is (-1, 10**12 - 1)."""
    return divmod(amount_pico, PICO_PER_USD)


def join(whole: int, pico: int) -> int:
    """The amount of a (whole, pico) pair."""
    return whole * PICO_PER_USD + pico


def parse_usd(text: str | int | Decimal, field: str) -> int:
    """Pico-USD of a non-negative decimal, exact; raises InvalidRequest naming `field`.

    Takes the raw JSON text of a number (never a float), at most 12 decimal places and 10**12 USD.
    """
    try:
        usd = Decimal(text)
    except (InvalidOperation, TypeError, ValueError):
        raise InvalidRequest(f"{field} must be a number of US dollars", field=field) from None
    if not usd.is_finite() or usd < 0 or usd > USD_MAX:
        raise InvalidRequest(f"{field} must be between 0 and 10^12 US dollars", field=field)
    try:
        pico = usd.scaleb(12, EXACT)
        return int(pico.quantize(Decimal(1), context=EXACT))
    except Inexact:
        raise InvalidRequest(f"{field} has more than 12 decimal places", field=field) from None


def usd(amount_pico: int) -> Decimal:
    """The amount in USD, exact, without trailing zeros or exponent: for JSON numbers and tables."""
    whole, pico = divmod(abs(amount_pico), PICO_PER_USD)
    digits = f"{whole}.{pico:012d}".rstrip("0").rstrip(".") if pico else str(whole)
    return Decimal("-" + digits if amount_pico < 0 else digits)
