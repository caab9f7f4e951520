"""The `xproxy_result` block, its amounts, and the splice."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.limits import State
from metering.core.money import PICO_PER_USD
from metering.core.record import UsageRow
from metering.core.result import digits, result_json, splice_json, splice_result, with_budgets

ROW = UsageRow(application_id="a", request_id="r1")


def parsed(text: bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize(
    ("amount_pico", "expected"),
    [
        (0, b"0"),
        (1, b"0.000000000001"),
        (2_750_000, b"0.00000275"),
        (32_500_000, b"0.0000325"),
        (10**12, b"1"),
        (10 * 10**12, b"10"),
        (1_500_000_000_000, b"1.5"),
        (10**24, b"1000000000000"),
        (-1, b"-0.000000000001"),
        (-(10**12), b"-1"),
    ],
)
def test_digits(amount_pico: int, expected: bytes) -> None:
    """Plain digits: no exponent, no trailing zeros, nothing rounded."""
    assert digits(amount_pico) == expected


@given(st.integers(-(10**25), 10**25))
def test_digits_are_exact(amount_pico: int) -> None:
    """Every amount reads back as the exact number it was."""
    text = digits(amount_pico)

    assert Decimal(text.decode()) * PICO_PER_USD == amount_pico
    assert b"e" not in text.lower()


def test_a_success() -> None:
    """Members come in Pay-i's order, nulls are left out, the amounts are exact numbers."""
    row = UsageRow(
        application_id="a",
        request_id="5673976",
        tags=["x", "y"],
        use_case_name="n",
        use_case_id="3950c164",
        use_case_step="s",
        user_id="u",
        account_name="acme",
        price_id="75",
        input_pico=2_750_000,
        output_pico=32_500_000,
        cost_pico=35_250_000,
        warnings=["w"],
    )
    assert result_json(row, {"2579": "ok"}).decode() == (
        '{"request_id":"5673976","request_tags":["x","y"],"limits":{"2579":{"state":"ok"}},'
        '"experience_id":"3950c164","use_case_name":"n","use_case_id":"3950c164",'
        '"use_case_step":"s","user_id":"u","account_name":"acme","resource_id":"75",'
        '"cost":{"currency":"usd","input":{"base":0.00000275},"output":{"base":0.0000325},'
        '"total":{"base":0.00003525}},"warnings":["w"]}'
    )


def test_a_bare_success() -> None:
    """A call without annotations has its id and its cost; zero is a cost."""
    assert parsed(result_json(ROW)) == {
        "request_id": "r1",
        "cost": {
            "currency": "usd",
            "input": {"base": 0},
            "output": {"base": 0},
            "total": {"base": 0},
        },
    }


def test_a_refusal() -> None:
    """A refused call names the limits that refused it, and has no cost."""
    row = UsageRow(application_id="a", request_id="r1", status="blocked")
    states: dict[str, State] = {"a": "blocked", "b": "blocked_external"}

    assert parsed(result_json(row, states, blocked_limit_ids=("a",))) == {
        "request_id": "r1",
        "limits": {"a": {"state": "blocked"}, "b": {"state": "blocked_external"}},
        "blocked_limit_ids": ["a"],
    }


@pytest.mark.parametrize(
    ("row", "has_cost"),
    [
        (UsageRow(application_id="a", request_id="r"), True),
        (UsageRow(application_id="a", request_id="r", pricing="free"), True),
        (UsageRow(application_id="a", request_id="r", pricing="unpriced"), False),
        (UsageRow(application_id="a", request_id="r", pricing="unmetered"), False),
        (UsageRow(application_id="a", request_id="r", pricing="unpriced", cost_pico=5), True),
        (UsageRow(application_id="a", request_id="r", status="failed"), False),
        (UsageRow(application_id="a", request_id="r", status="unresolved", cost_pico=5), True),
    ],
)
def test_when_there_is_a_cost(row: UsageRow, has_cost: bool) -> None:  # noqa: FBT001
    """A cost that is not known is left out, never stated as zero."""
    assert ("cost" in parsed(result_json(row))) is has_cost


@pytest.mark.parametrize(
    ("unit", "name", "direction"),
    [
        ("audio_seconds", "audio_second", "input"),
        ("input_characters", "text_character", "input"),
        ("cache_write_1h", "text_cache_write_1h", "input"),
        ("web_search", "web_search_request", "output"),
        ("images", "image", "output"),
        ("image_hd_1024x1024", "image_hd_1024x1024", "output"),
        ("container_4g", "container_4g_session", "output"),
        ("a_caller_s_own", "a_caller_s_own", "input"),
        ("a_caller_s.own.output", "a_caller_s.own", "output"),
    ],
)
def test_an_unknown_unit_is_on_its_side(unit: str, name: str, direction: str) -> None:
    """A unit without a price is named as Pay-i's clients name it: input, or what the model made."""
    row = UsageRow(application_id="a", request_id="r", units={unit: 3})
    result = parsed(result_json(row, unpriced=(unit,)))
    assert result["unknown_units"] == {name: {"input": 0, "output": 0} | {direction: 3}}


def test_the_rest() -> None:
    """Overrun, units without a price, and a repeated request are stated where they are."""
    row = UsageRow(application_id="a", request_id="r", units={"input_text": 5, "output_text": 7})
    result = parsed(
        result_json(
            row,
            unpriced=("input_text", "output_text", "reasoning"),
            overrun_pico=10**9,
            duplicate=True,
        )
    )
    assert result["cost"]["total"] == {"base": 0, "overrun_base": Decimal("0.001")}
    assert result["unknown_units"] == {
        "text": {"input": 5, "output": 7},
        "reasoning": {"input": 0, "output": 0},
    }
    assert result["duplicate_request"] is True


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}', b'{"a":1,"r":2}'),
        (b'{"a":1}\n', b'{"a":1,"r":2}\n'),
        (b' \r\n{\n  "a": 1\n}\t ', b' \r\n{\n  "a": 1\n,"r":2}\t '),
        (b"{}", b'{"r":2}'),
        (b"{ \n }", b'{ \n "r":2}'),
        (b'{"a":"{"}', b'{"a":"{","r":2}'),
        (b'{"a":{}}', b'{"a":{},"r":2}'),
        (b"[]", None),
        (b"[{}]", None),
        (b"{", None),
        (b"}", None),
        (b"", None),
        (b"  ", None),
        (b"null", None),
        (b"<html>{}", None),
    ],
)
def test_splice(body: bytes, expected: bytes | None) -> None:
    """Members go after the object's own; every byte is kept; what is no object is refused."""
    assert splice_json(body, b'"r":2') == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.sampled_from([None, 1, 4]))
def test_any_object_can_be_spliced(value: dict[str, Any], indent: int | None) -> None:
    """Whatever the object, it is the same with the result in it."""
    value.pop("xproxy_result", None)
    spliced = splice_result(json.dumps(value, indent=indent).encode(), b'{"request_id":"r"}')

    assert spliced is not None
    assert json.loads(spliced) == value | {"xproxy_result": {"request_id": "r"}}


def test_limits_by_their_first_name() -> None:
    """Both names say the same, behind all other members; a result without limits stays as it is."""
    result = result_json(ROW, {"a": "blocked", "b": "blocked_external"}, blocked_limit_ids=["a"])
    named = parsed(with_budgets(result))
    assert named.pop("budgets") == named["limits"]
    assert named.pop("blocked_budget_ids") == ["a"]
    assert named == parsed(result)
    assert with_budgets(result_json(ROW)) == result_json(ROW)
