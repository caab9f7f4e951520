"""A member that is taken out of a request, and whom a request says that it is for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.providers import DIALECTS
from metering.providers.request import without

CUT = [
    # body                                     without `m`                        what `m` was
    (b'{"a":1,"m":{"x":[1]},"b":2}', b'{"a":1,"b":2}', b'{"x":[1]}'),
    (b'{"m":1,"a":1}', b'{"a":1}', b"1"),
    (b'{"a":1,"m":null}', b'{"a":1}', b"null"),
    (b'{"m":1}', b"{}", b"1"),
    (b'{ "a" : 1.0 , "m" : { } , "b" : 1e2 }\n', b'{ "a" : 1.0  , "b" : 1e2 }\n', b"{ }"),
    (b'{\n  "m": 1,\n  "a": 1\n}', b'{\n  "a": 1\n}', b"1"),
    (b'{\n  "a": 1,\n  "m": 1\n}', b'{\n  "a": 1\n}', b"1"),
    (b' { "m" : 1 } ', b" { } ", b"1"),
    (b'{"a":"\\u00e9","m":1}', b'{"a":"\\u00e9"}', b"1"),
    (b'{"a":{"m":2},"m":1}', b'{"a":{"m":2}}', b"1"),
    (b'{"m":1,"a":1,"m":2}', b'{"a":1}', b"2"),
    (b'{"a":1,"m":1,"a":2}', b'{"a":2}', b"1"),
    (b'{"\\u0061": 1, "m": 1}', b'{"a":1}', b"1"),
    (b'{"\\u006d": 1, "a": 1}', b'{"a":1}', b"1"),
    (b'{"a":{"m":2}}', b'{"a":{"m":2}}', None),
    (b'["m"]', b'["m"]', None),
    (b'{"m":1', b'{"m":1', None),
    (b'--x\r\n"m"', b'--x\r\n"m"', None),
    (b"", b"", None),
    (b"[" * 100_000, b"[" * 100_000, None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "rest", "member"), CUT)
def test_a_member_is_taken_out(body: bytes, rest: bytes, member: bytes | None) -> None:
    """All other bytes stay; a body that others could read otherwise is written anew."""
    left, found = without(body, "m")
    assert left == rest
    assert (None if found is None else bytes(found)) == member


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
LAYOUTS: list[dict[str, Any]] = [
    {"separators": (",", ":"), "ensure_ascii": False},
    {},
    {"indent": 2},
    {"indent": "\t", "separators": (" , ", " : ")},
]


@given(
    st.dictionaries(st.text(max_size=3).filter(lambda it: it != "m"), VALUES, max_size=4),
    VALUES,
    st.integers(0, 4),
    st.sampled_from(LAYOUTS),
)
def test_any_member_of_any_object(
    others: dict[str, Any], value: Any, place: int, layout: dict[str, Any]
) -> None:
    """Wherever it stands and however the body is laid out, the rest is the same object."""
    items = list(others.items())
    items.insert(place, ("m", value))
    try:
        body = json.dumps(dict(items), **layout).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which is no text
    rest, found = without(body, "m")
    assert json.loads(rest) == others
    assert list(json.loads(rest)) == list(others)
    assert found is None or json.loads(bytes(found)) == value
    assert (found is None) == (rest == body)


ENDPOINTS = {
    "/v1/chat/completions": "user",
    "/v1/completions": "user",
    "/v1/responses": "user",
    "/v1/embeddings": "user",
    "/v1/images/generations": "user",
    "/v1/messages": "metadata",
    "/v1/complete": "metadata",
}
SAID: list[tuple[dict[str, Any], str | None, str | None]] = [
    # members                                              user, metadata
    ({}, None, None),
    ({"user": "ann"}, "ann", None),
    ({"user": 5}, None, None),
    ({"user": "", "safety_identifier": "eve"}, "eve", None),
    ({"user": "ann", "safety_identifier": "eve"}, "ann", None),
    ({"metadata": {"user_id": "bob", "x": 1}}, None, "bob"),
    ({"metadata": {"user_id": 5}}, None, None),
    ({"metadata": {"user_id": None}}, None, None),
    ({"metadata": None}, None, None),
    ({"metadata": ["user_id"]}, None, None),
]


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(("members", "user", "metadata"), SAID)
def test_whom_a_request_is_for(
    path: str, members: dict[str, Any], user: str | None, metadata: str | None
) -> None:
    """Each provider's own member says it; what else stands there is the provider's to refuse."""
    said = ENDPOINTS[path]
    dialect = DIALECTS["openai" if said == "user" else "anthropic"]
    body = json.dumps({"model": "m", "messages": []} | members).encode()
    ask = dialect.ask(dialect.endpoint("POST", path), body)
    assert ask.end_user == (user if said == "user" else metadata)
