"""What is kept of what was said in a call: less secrets, cut to size, packed and bound."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core import bodies
from metering.core.bodies import (
    BYTES_MAX,
    NOTHING,
    Bodies,
    FunctionCall,
    HeaderInfo,
    bound_to,
    kept,
    pack,
    unpack,
)


def header(name: str, value: str | None = None) -> HeaderInfo:
    """A header."""
    return HeaderInfo(name=name, value=value)


EVERYTHING = Bodies(
    provider_uri="https://api.openai.com/v1/",
    provider_request_headers=[header("content-type", "application/json"), header("x")],
    provider_request_json='{"model": "gpt-4o"}',
    provider_request_reasoning_json="no JSON {",
    provider_response_headers=[header("x-request-id", "req-1")],
    provider_response_json=["data: 1", "data: 2"],
    provider_response_function_calls=[
        FunctionCall(name="f", arguments="{}"),
        FunctionCall(name="g"),
    ],
)


def test_what_fits_is_kept_as_it_is() -> None:
    """Text that is no JSON too."""
    assert kept(EVERYTHING) == EVERYTHING
    assert kept(Bodies(provider_response_json="a")) == Bodies(provider_response_json="a")


@pytest.mark.parametrize(
    "said",
    [
        Bodies(),
        Bodies(provider_uri="", provider_request_json="", provider_response_json=[]),
        Bodies(provider_request_headers=[header("authorization", "Bearer x")]),
    ],
)
def test_nothing_is_nothing(said: Bodies) -> None:
    """What has nothing in it, or nothing that may be kept, is not kept."""
    assert kept(said) == NOTHING


def test_what_lets_somebody_in_is_left_out() -> None:
    """Headers by their names, and keys wherever they stand in one; user and query of the URI."""
    said = Bodies(
        provider_uri="https://user:word@host/v1?key=AIzaSecret#x",
        provider_request_headers=[
            header("Authorization", "Bearer sk-1234567890"),
            header("Cookie", "a=b"),
            header("user-agent", "x"),
            header("x-note", "called with sk-proj-1234567890"),
        ],
        provider_response_headers=[header("set-cookie", "a=b"), header("date", "today")],
    )
    assert kept(said) == Bodies(
        provider_uri="https://host/v1",
        provider_request_headers=[header("user-agent", "x"), header("x-note", "called with ***")],
        provider_response_headers=[header("date", "today")],
    )


@pytest.mark.parametrize("name", ["provider_request_json", "provider_request_reasoning_json"])
def test_a_long_text_is_cut_and_said_to_be(name: str) -> None:
    """Before a character that does not fit whole; one that just fits is whole."""
    for text, length in (
        ("x" * BYTES_MAX, BYTES_MAX),
        ("x" * (BYTES_MAX + 1), BYTES_MAX),
        ("ü" + "x" * BYTES_MAX, BYTES_MAX - 1),
        ("x" * (BYTES_MAX - 1) + "ü", BYTES_MAX - 1),
    ):
        said: Any = {name: text}
        found = kept(Bodies(**said))
        assert getattr(found, name) == text[:length]
        assert found.truncated == ([] if length == len(text) else [name])


LONG = "x" * (BYTES_MAX // 2)
CUT: list[tuple[str, Any, Any]] = [
    # body, what was said, what is kept of it
    ("provider_response_json", [LONG, LONG, "more"], [LONG, LONG[:-1]]),
    ("provider_response_json", ["a" + LONG + LONG], [("a" + LONG + LONG)[:BYTES_MAX]]),
    ("provider_response_json", [""] * (BYTES_MAX + 1), [""] * BYTES_MAX),
    ("provider_request_headers", [("a", LONG + LONG), ("b", "c")], [("a", (LONG + LONG)[:-1])]),
    ("provider_response_headers", [(LONG + LONG, "b"), ("c", "d")], [(LONG + LONG, "")]),
    (
        "provider_response_function_calls",
        [("f", LONG), ("g", LONG), ("h", None)],
        [("f", LONG), ("g", LONG[:-3])],
    ),
]


@pytest.mark.parametrize(("name", "said", "left"), CUT, ids=range(len(CUT)))
def test_a_long_list_is_cut_and_said_to_be(name: str, said: Any, left: Any) -> None:
    """Its parts share the room of one body, and each takes a byte for itself."""
    made: Any = {
        "json": lambda text: text,
        "headers": lambda pair: header(*pair),
        "calls": lambda pair: FunctionCall(name=pair[0], arguments=pair[1]),
    }[name.rpartition("_")[2]]
    asked: Any = {name: [made(it) for it in said]}
    found = kept(Bodies(**asked))
    expected: Any = {name: [made(it) for it in left], "truncated": [name]}
    assert found == Bodies(**expected) or pytest.fail(str(found)[:200])


texts = st.text(max_size=40)
headers = st.lists(st.builds(HeaderInfo, name=texts, value=st.none() | texts), max_size=5)


@given(
    st.builds(
        Bodies,
        provider_uri=st.none() | texts,
        provider_request_headers=st.none() | headers,
        provider_request_json=st.none() | texts,
        provider_response_json=st.none() | texts | st.lists(texts, max_size=5),
    )
)
def test_no_body_is_longer_than_it_may_be(said: Bodies) -> None:
    """Whatever is in it; what is kept comes back as it was packed."""
    whole = kept(said)
    assert unpack(pack(whole)) == whole
    bodies.BYTES_MAX = 30
    try:
        found = kept(said)
    finally:
        bodies.BYTES_MAX = BYTES_MAX
    assert len((found.provider_request_json or "").encode()) <= 30
    response = found.provider_response_json or ""
    assert sum(len(it.encode()) for it in response) <= 30
    for name, value in msgspec.structs.asdict(whole).items():
        if name not in found.truncated and name != "truncated":
            assert getattr(found, name) == value


def test_bodies_are_one_calls() -> None:
    """No other call's, and no other application's, nor both mixed up."""
    bound = {bound_to(a, r) for a in ("a", "ab") for r in ("b", "bb")}
    assert len(bound) == 4
