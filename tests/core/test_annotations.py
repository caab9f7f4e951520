"""Annotation headers: every name, every encoding, every refusal."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.annotations import MEMBERS, NONE, Annotations, annotate, of_members
from metering.core.origins import parse
from metering.errors import InvalidRequest


def read(*headers: tuple[str, str]) -> Annotations:
    return annotate([(name.encode(), value.encode()) for name, value in headers])


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


MAP = {"a": "1", "b": None}

GOOD: list[tuple[str, str, str, Any]] = [
    # header                    value               field                  read as
    ("xProxy-Limit-IDs", "a", "limit_ids", ("a",)),
    ("xproxy-limit-ids", " a , b:1.x-_ ,, ", "limit_ids", ("a", "b:1.x-_")),
    ("xProxy-Limit-IDs", "a/b_c,100%,%2C,a=b,~", "limit_ids", ("a/b_c", "100%", "%2C", "a=b", "~")),
    ("xProxy-Limit-IDs", "x" * 128, "limit_ids", ("x" * 128,)),
    ("xProxy-Limit-IDs", ",".join(map(str, range(16))), "limit_ids", tuple(map(str, range(16)))),
    ("xProxy-Request-Tags", "a, b-1 ,c_2", "tags", ("a", "b-1", "c_2")),
    ("xProxy-Request-Tags", "a,b,a", "tags", ("a", "b")),
    ("xProxy-User-ID", "user@example.com", "user_id", "user@example.com"),
    ("xProxy-User-ID", "  ü  ", "user_id", "ü"),
    ("xProxy-Account-Name", "Acme Inc.", "account_name", "Acme Inc."),
    ("xProxy-UseCase-Name", "My.use-case_1", "use_case_name", "My.use-case_1"),
    ("xProxy-Experience-Name", "toy", "use_case_name", "toy"),
    ("xProxy-UseCase-ID", "id 1", "use_case_id", "id 1"),
    ("xProxy-Experience-Id", "x", "use_case_id", "x"),
    ("xProxy-Experience-ID", "x", "use_case_id", "x"),
    ("xProxy-Experience-InstanceId", "x", "use_case_id", "x"),
    ("xProxy-UseCase-Version", "3", "use_case_version", 3),
    ("xProxy-UseCase-Version", "0", "use_case_version", None),
    ("xProxy-UseCase-Step", "one", "use_case_step", "one"),
    ("xProxy-UseCase-Properties", '{"a":"1","b":null}', "use_case_properties", MAP),
    ("xProxy-UseCase-Properties", b64('{"a":"1","b":null}'), "use_case_properties", MAP),
    ("xProxy-Request-Properties", ' { "a": "1", "b": null } ', "properties", MAP),
    ("xProxy-Request-Properties", b64('{"a":"1","b":null}').rstrip("="), "properties", MAP),
    ("xProxy-Request-Properties", b64(' {"a":"ÿ~?"}'), "properties", {"a": "ÿ~?"}),
    ("xProxy-Request-Properties", '{"a":"ü"}', "properties", {"a": "ü"}),
    ("xProxy-Request-Properties", "{}", "properties", {}),
    ("xProxy-PriceAs-Category", "system.openai", "price_as_category", "system.openai"),
    ("xProxy-PriceAs-Resource", "gpt-4o", "price_as_resource", "gpt-4o"),
    ("xProxy-RouteAs-Resource", "gpt-4o", "price_as_resource", "gpt-4o"),
    ("xProxy-Resource-Scope", "global", "scope", "global"),
    ("xProxy-Resource-Scope", "datazone.us", "scope", "datazone.us"),
    ("xProxy-Provider-BaseUri", "https://a.B.com/v1/", "base_uri", parse("https://a.b.com/v1")),
    ("xProxy-Provider-BaseURI", " http://[::1]:8 ", "base_uri", parse("http://[::1]:8")),
    ("xProxy-Provider-BaseUri", "https://bücher.de", "base_uri", parse("https://bücher.de")),
    ("xProxy-Logging-Disable", "True", "logging_disabled", True),
    ("xProxy-Logging-Disable", "False", "logging_disabled", False),
    ("xProxy-Logging-Disable", "true", "logging_disabled", True),
    ("xProxy-Logging-Disable", "None", "logging_disabled", False),
    ("xProxy-Result", "off", "result_off", True),
    ("xProxy-Result", "on", "result_off", False),
    ("xProxy-On-Disconnect", "cancel", "on_disconnect", "cancel"),
    ("xProxy-On-Disconnect", "Drain", "on_disconnect", "drain"),
]


@pytest.mark.parametrize(("name", "value", "field", "expected"), GOOD)
@pytest.mark.parametrize("case", [str, str.lower, str.upper])
def test_headers(name: str, value: str, field: str, expected: Any, case: Any) -> None:
    """Every name is read in any case, into its one field and no other."""
    assert read((case(name), value)) == msgspec.structs.replace(NONE, **{field: expected})


def test_members_stand_beside_headers() -> None:
    """Lists and properties add up, headers' first; of two values the header's counts."""
    headers = read(
        ("xProxy-Limit-IDs", "a,b"),
        ("xProxy-User-ID", "u"),
        ("xProxy-Request-Properties", '{"p":"1"}'),
    )
    members = Annotations(
        limit_ids=("b", "c"), user_id="v", account_name="w", properties={"p": "2", "q": "2"}
    )
    assert members.beside(NONE) is members
    assert members.beside(headers) == Annotations(
        limit_ids=("a", "b", "c"), user_id="u", account_name="w", properties={"p": "1", "q": "2"}
    )


def test_limits_by_their_first_name() -> None:
    """They count as any, and it is known that they were named so."""
    said = read(("XPROXY-BUDGET-IDS", "a,b"))
    assert said == msgspec.structs.replace(NONE, limit_ids=("a", "b"), as_budgets=True)


BAD = [
    # header                     value                      code                       message has
    ("xProxy-Limit-IDs", "a,b,a", "duplicate_limit_id", "'a' specified more than once"),
    ("xProxy-Limit-IDs", "a b", "invalid_limit_id", "'a b'"),
    ("xProxy-Budget-IDs", "a;b", "invalid_limit_id", "'a;b'"),
    ("xProxy-Limit-IDs", "a|b", "invalid_limit_id", "'a|b'"),
    ("xProxy-Limit-IDs", "ä", "invalid_limit_id", "'ä'"),
    ("xProxy-Limit-IDs", "x" * 129, "invalid_limit_id", "1 to 128"),
    ("xProxy-Limit-IDs", "x" * 500, "invalid_limit_id", "..."),
    ("xProxy-Limit-IDs", ",".join(map(str, range(17))), "invalid_limit_ids", "17 limits"),
    ("xProxy-Request-Tags", "a b", "invalid_tags", "'a b'"),
    ("xProxy-Request-Tags", "ü", "invalid_tags", "Alphanumeric"),
    ("xProxy-Request-Tags", ",".join(map(str, range(65))), "invalid_tags", "65 tags"),
    ("xProxy-User-ID", "a b", "invalid_user_id", "'a b'"),
    ("xProxy-User-ID", "a\tb", "invalid_user_id", "control"),
    ("xProxy-User-ID", "a" * 257, "invalid_user_id", "256"),
    ("xProxy-Account-Name", "a\x07", "invalid_header", "control"),
    ("xProxy-Account-Name", "a" * 257, "invalid_header", "256"),
    ("xProxy-UseCase-ID", "a\x85b", "invalid_header", "control"),
    ("xProxy-UseCase-Name", "a b", "invalid_use_case_name", "'a b'"),
    ("xProxy-Experience-Name", "a" * 65, "invalid_use_case_name", "64"),
    ("xProxy-UseCase-Version", "-1", "invalid_use_case_version", "whole number"),
    ("xProxy-UseCase-Version", "1.5", "invalid_use_case_version", "whole number"),
    ("xProxy-UseCase-Version", "one", "invalid_use_case_version", "whole number"),
    ("xProxy-UseCase-Version", "²", "invalid_use_case_version", "whole number"),
    ("xProxy-UseCase-Version", "9" * 10, "invalid_use_case_version", "whole number"),
    ("xProxy-UseCase-Version", "9" * 5000, "invalid_use_case_version", "whole number"),
    ("xProxy-Resource-Scope", "mars", "invalid_resource_scope", "datazone"),
    ("xProxy-Provider-BaseUri", "api.openai.com", "invalid_provider_uri", "absolute URI"),
    ("xProxy-Provider-BaseUri", "https://127.1", "invalid_provider_host", "'127.1'"),
    ("xProxy-Logging-Disable", "yes", "invalid_header", "True"),
    ("xProxy-Result", "none", "invalid_header", "off"),
    ("xProxy-On-Disconnect", "wait", "invalid_header", "drain or cancel"),
    ("xProxy-Request-Properties", "{", "invalid_properties", "JSON object"),
    ("xProxy-Request-Properties", "[]", "invalid_properties", "JSON object"),
    ("xProxy-Request-Properties", "a=1", "invalid_properties", "JSON object"),
    ("xProxy-Request-Properties", "ü", "invalid_properties", "JSON object"),
    ("xProxy-Request-Properties", b64("[1]"), "invalid_properties", "JSON object"),
    ("xProxy-Request-Properties", '{"a":1}', "invalid_properties", "strings or null"),
    ("xProxy-Request-Properties", '{"a":{}}', "invalid_properties", "strings or null"),
    ("xProxy-Request-Properties", '{"a":"\\ud800"}', "invalid_properties", "JSON object"),
    ("xProxy-Request-Properties", '{"a":"\\u0000"}', "invalid_properties", "control"),
    ("xProxy-Request-Properties", '{"a":"x\\ny"}', "invalid_properties", "control"),
    ("xProxy-UseCase-Properties", b64('{"a\\n":"x"}'), "invalid_properties", "control"),
    ("xProxy-Request-Properties", '{"":"x"}', "invalid_properties", "no name"),
    ("xProxy-Request-Properties", '{"a":"%s"}' % ("x" * 2049), "invalid_properties", "2048"),
    ("xProxy-Request-Properties", '{"a":"%s"}' % ("x" * 20000), "invalid_properties", "16384"),
    (
        "xProxy-Request-Properties",
        "{" + ",".join(f'"{i}":""' for i in range(65)) + "}",
        "invalid_properties",
        "65 properties",
    ),
]


@pytest.mark.parametrize(("name", "value", "code", "message"), BAD)
def test_refusals(name: str, value: str, code: str, message: str) -> None:
    """A wrong value is refused with its code, naming the header and saying what would do."""
    with pytest.raises(InvalidRequest) as caught:
        read((name, value))

    current = name.replace("Experience", "UseCase")
    assert (caught.value.code, caught.value.field) == (code, current)
    assert message in caught.value.message
    assert current in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_no_annotations() -> None:
    """A call that says nothing, or sends empty values, has none; other headers are not read."""
    assert annotate([]) is NONE
    assert read(("accept", "x"), ("xproxy-limit-ids", " "), ("xproxy-user-id", "")) is NONE
    assert read(("xproxy-forward-x", "y"), ("xproxy-application-key", "k")) is NONE


def test_repeated_headers() -> None:
    """Lists add up; a single value may be repeated, but not contradicted."""
    assert read(("xproxy-limit-ids", "a"), ("xproxy-limit-ids", "b")).limit_ids == ("a", "b")
    assert read(("xproxy-user-id", "a"), ("xproxy-user-id", "a")).user_id == "a"
    with pytest.raises(InvalidRequest, match="xProxy-User-ID came more than once"):
        read(("xproxy-user-id", "a"), ("xproxy-user-id", "b"))
    with pytest.raises(InvalidRequest, match="specified more than once"):
        read(("xproxy-limit-ids", "a"), ("xproxy-limit-ids", "a"))


def test_current_and_legacy_names_together() -> None:
    """The current name counts, in either order; limits of both count, so that none is lost."""
    both = (("xproxy-experience-name", "old"), ("xproxy-usecase-name", "new"))
    assert read(*both).use_case_name == "new"
    assert read(*reversed(both)).use_case_name == "new"
    assert read(("xproxy-budget-ids", "b,a"), ("xproxy-limit-ids", "a")).limit_ids == ("a", "b")
    many = ",".join(map(str, range(10)))
    with pytest.raises(InvalidRequest, match="20 limits"):
        read(("xproxy-budget-ids", many), ("xproxy-limit-ids", many.replace(",", ",x") + ",x0"))


def test_bytes_that_are_not_utf_8() -> None:
    """Header bytes that are no UTF-8 are read as Latin-1."""
    assert annotate([(b"xproxy-user-id", b"\xfc")]).user_id == "ü"


@given(st.lists(st.tuples(st.sampled_from([g[0] for g in GOOD]), st.binary(max_size=40))))
def test_any_bytes(headers: list[tuple[str, bytes]]) -> None:
    """Whatever the bytes: annotations, or an InvalidRequest that names a header."""
    refused = None
    try:
        annotate([(name.lower().encode(), value) for name, value in headers])
    except InvalidRequest as error:
        refused = error
    assert refused is None or refused.field


def test_members_of_a_body_say_what_headers_say() -> None:
    """Each has the meaning of its header; what is empty says nothing."""
    said = {
        "limit_ids": "a, b",
        "request_tags": "x,y",
        "user_id": "u",
        "account_name": "Acme Inc.",
        "use_case_name": "case",
        "use_case_id": "1",
        "use_case_version": "2",
        "use_case_step": "step",
        "scope": "datazone.us",
    }
    assert said.keys() == MEMBERS.keys()
    assert of_members(said) == read(*((MEMBERS[name], value) for name, value in said.items()))
    assert of_members(dict.fromkeys(said, " ") | {"use_case_version": "0"}) == NONE


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("limit_ids", "a,a", "duplicate_limit_id"),
        ("limit_ids", "a b", "invalid_limit_id"),
        ("request_tags", "a b", "invalid_tags"),
        ("user_id", "a b", "invalid_user_id"),
        ("account_name", "x" * 257, "invalid_header"),
        ("use_case_name", "a b", "invalid_use_case_name"),
        ("use_case_version", "-1", "invalid_use_case_version"),
        ("scope", "moon", "invalid_resource_scope"),
    ],
)
def test_a_member_at_fault_is_named(member: str, value: str, code: str) -> None:
    """As the body has it, not as the header of the same meaning."""
    with pytest.raises(InvalidRequest, match=member) as refused:
        of_members({member: value})
    assert (refused.value.code, refused.value.field) == (code, member)
    assert "xProxy" not in refused.value.message
