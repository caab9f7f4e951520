"""Header hygiene, each way: what passes, what stays, and that our keys never leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.headers import (
    CREDENTIALS,
    NAME_REMEMBERED_MAX,
    _passes,
    bare_key,
    from_provider,
    only_key,
    our_key_and_provider_key,
    query_to_provider,
    redacted,
    redacted_uri,
    retry_count,
    scrub,
    tells_secret,
    to_provider,
)
from metering.core.keys import make_key
from metering.errors import InvalidRequest

OURS = make_key("app", bytes(32))
ADMIN = "an-operators-own-admin-key-of-32-characters"
STORED = (b"authorization", b"Bearer sk-stored")
IDENTITY = (b"accept-encoding", b"identity")


def sent(*headers: tuple[str, str], stored: bool = False) -> dict[str, str]:
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    passed = to_provider(pairs, STORED if stored else None, our_keys=[ADMIN])
    assert len({name for name, _ in passed}) == len(passed)
    return {name.decode(): value.decode() for name, value in passed}


PASS = [
    ("content-type", "application/json"),
    ("user-agent", "OpenAI/Python"),
    ("accept", "text/event-stream"),
    ("authorization", "Bearer sk-theirs"),
    ("x-api-key", "sk-ant-theirs"),
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "a,b"),
    ("openai-organization", "org-1"),
    ("x-stainless-retry-count", "0"),
    ("traceparent", "00-1-2-03"),
    ("x-amz-date", "20260101"),
]
DROP = [
    ("xproxy-api-key", "anything"),
    ("xProxy-Limit-IDs", "a"),
    ("xproxy_limit_ids", "a"),
    ("x-portkey-config", "c"),
    ("x-litellm-tags", "t"),
    ("host", "h"),
    ("Host", "h"),
    ("content-length", "3"),
    ("accept-encoding", "gzip, br"),
    ("connection", "keep-alive"),
    ("keep-alive", "5"),
    ("proxy-authorization", "Basic x"),
    ("proxy-connection", "x"),
    ("te", "trailers"),
    ("trailer", "x"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "websocket"),
    ("expect", "100-continue"),
    ("cookie", "session=1"),
    ("forwarded", "for=1"),
    ("x-forwarded-for", "1.2.3.4"),
    ("x-forwarded-proto", "https"),
    ("x-real-ip", "1.2.3.4"),
    ("via", "1.1 nginx"),
    ("transfer_encoding", "chunked"),
    ("content_length", "3"),
    ("x_forwarded_for", "1.2.3.4"),
    ("x_portkey_config", "c"),
    ("authorization", f"Bearer {OURS}"),
    ("authorization", OURS),
    ("x-api-key", OURS),
    ("x-custom", f"key={OURS}"),
    ("authorization", f"Bearer {ADMIN}"),
    ("x-api-key", ADMIN),
    ("xproxy-forward-x", OURS),
]


@pytest.mark.parametrize("header", PASS)
def test_what_passes(header: tuple[str, str]) -> None:
    """The caller's own headers go upstream as they are."""
    assert sent(header) == dict([header]) | {"accept-encoding": "identity"}


@pytest.mark.parametrize("header", DROP)
def test_what_stays(header: tuple[str, str]) -> None:
    """What is ours, the connection's, a front proxy's or a cookie stays; so do our keys."""
    assert sent(header) == {"accept-encoding": "identity"}


def test_connection_names_are_dropped() -> None:
    """Headers that `Connection` lists belong to the connection."""
    headers = (("Connection", "X-One, x-two"), ("connection", "close"), ("x-one", "1"))
    passed = sent(*headers, ("x-two", "2"), ("x-three", "3"))
    assert passed.keys() == {"x-three", "accept-encoding"}


@pytest.mark.parametrize(
    "slot", ["authorization", "x-api-key", "x_api_key", "api-key", "x-goog-api-key"]
)
@pytest.mark.parametrize("prefix", ["", "xproxy-forward-"])
def test_a_stored_credential_replaces_all(slot: str, prefix: str) -> None:
    """With a stored credential none of the caller's goes upstream, forwarded ones neither."""
    passed = sent((prefix + slot, "sk-theirs"), stored=True)
    assert passed == {"authorization": "Bearer sk-stored", "accept-encoding": "identity"}


def test_forwarding() -> None:
    """`xProxy-Forward-X` becomes `X`, in place of the caller's own."""
    passed = sent(
        ("openai-organization", "old"),
        ("xProxy-Forward-OpenAI-Organization", "org-1"),
        ("xproxy-forward-cookie", "c=1"),
        ("xproxy-forward-authorization", "Bearer sk-theirs"),
        ("authorization", f"Bearer {OURS}"),
    )
    assert passed == {
        "openai-organization": "org-1",
        "cookie": "c=1",
        "authorization": "Bearer sk-theirs",
        "accept-encoding": "identity",
    }


@pytest.mark.parametrize(
    "name",
    [
        "",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "expect",
        "accept-encoding",
        "proxy-authorization",
        "xproxy-limit-ids",
        "xproxy-forward-host",
        "x-portkey-config",
        "content_length",
        "transfer_encoding",
        "xproxy_limit_ids",
    ],
)
def test_forwarding_smuggles_nothing(name: str) -> None:
    """What the proxy sets or keeps cannot be forwarded past it."""
    with pytest.raises(InvalidRequest) as caught:
        sent((f"xproxy-forward-{name}", "x"))

    assert caught.value.code == "invalid_forward_header"
    assert caught.value.field == f"xProxy-Forward-{name}"


@pytest.mark.parametrize("char", ["\r", "\n", "\0"])
@pytest.mark.parametrize("name", ["user-agent", "xproxy-forward-x"])
def test_line_breaks_are_refused(name: str, char: str) -> None:
    """No value ends its header early; those that stay here anyway do not matter."""
    with pytest.raises(InvalidRequest, match="line break or NUL"):
        sent(("accept", "x"), (name, f"a{char}b: c"))
    assert sent(("cookie", f"a{char}b"), ("x", f"{OURS}{char}")) == {"accept-encoding": "identity"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([name.encode() for name, _ in PASS + DROP] + [b"xproxy-forward-y"]),
            st.binary(max_size=5).map(lambda junk: junk + OURS.encode() + junk),
        )
    ),
    st.booleans(),
)
def test_our_key_never_leaves(headers: list[tuple[bytes, bytes]], stored: bool) -> None:  # noqa: FBT001
    """Whatever header our key stands in, and whatever stands around it."""
    passed = to_provider(headers, STORED if stored else None)
    assert not any(OURS.encode() in value for _, value in passed)


@pytest.mark.parametrize(
    ("query", "stored", "expected"),
    [
        (b"", True, b""),
        (b"beta=true", True, b"beta=true"),
        (b"key=abc&alt=sse", False, b"key=abc&alt=sse"),
        (b"key=abc&alt=sse", True, b"alt=sse"),
        (b"a=%2F&api_key=abc", True, b"a=%2F"),
        (b"monkey=1", True, b"monkey=1"),
        (b"a=1&key=" + OURS.encode(), False, b"a=1"),
        (b"a=%2f&key=" + OURS.replace("-", "%2D").encode(), False, b"a=%2f"),
        (b"key=" + ADMIN.encode() + b"&b=2", False, b"b=2"),
        (b"key=x%20" + "".join(f"%{ord(it):x}" for it in ADMIN).encode(), False, b""),
    ],
)
def test_queries(query: bytes, stored: bool, expected: bytes) -> None:  # noqa: FBT001
    """The query passes as it is, but for keys that must not, however encoded."""
    assert query_to_provider(query, stored=stored, our_keys=[ADMIN]) == expected


KEPT = [b"content-type", b"x-request-id", b"retry-after", b"x-should-retry"]


def test_answers() -> None:
    """Of an answer, what is the connection's or the server's stays; the rest passes in order."""
    dropped = [
        *(b"server", b"set-cookie", b"alt-svc", b"strict-transport-security", b"www-authenticate"),
        *(b"transfer-encoding", b"connection", b"content-length", b"x-hop", b"xproxy-request-id"),
        *(b"access-control-allow-origin", b"x-litellm-call-id"),
    ]
    headers = [(name, b"x-hop") for name in [*dropped, *KEPT]]
    assert from_provider(headers, body_changed=True) == [(name, b"x-hop") for name in KEPT]


@pytest.mark.parametrize(
    ("body_changed", "stored", "dropped"),
    [
        (False, False, set()),
        (True, False, {b"content-encoding", b"etag"}),
        (False, True, {b"openai-organization"}),
        (True, True, {b"content-encoding", b"etag", b"openai-organization"}),
    ],
)
def test_answers_of_changed_bodies_and_stored_credentials(
    body_changed: bool,  # noqa: FBT001
    stored: bool,  # noqa: FBT001
    dropped: set[bytes],
) -> None:
    """What described the old bytes goes with them; what names the credential's owner too."""
    names = {b"content-encoding", b"etag", b"openai-organization"}
    key = b"sk-stored" if stored else None
    passed = from_provider([(n, b"x") for n in names], body_changed=body_changed, stored_key=key)
    assert {name for name, _ in passed} == names - dropped


def test_answers_that_repeat_a_stored_key() -> None:
    """A provider's header that shows the stored key is left out; the caller's own is his."""
    headers = [(b"x-debug", b"Bearer a-stored-key"), (b"y", b"1")]
    assert from_provider(headers, body_changed=False, stored_key=b"a-stored-key") == headers[1:]
    assert from_provider(headers, body_changed=False) == headers


def test_answers_with_line_breaks() -> None:
    """A provider's header that would end early is left out."""
    assert from_provider([(b"x", b"a\r\nb: c"), (b"y", b"1")], body_changed=False) == [(b"y", b"1")]


def test_long_names_of_answers_are_not_remembered() -> None:
    """A provider that makes up long header names fills no memory; they pass all the same."""
    _passes.cache_clear()
    name = b"x-" + b"a" * NAME_REMEMBERED_MAX
    assert from_provider([(name, b"1"), (b"x-b", b"2")], body_changed=True) == [
        (name, b"1"),
        (b"x-b", b"2"),
    ]
    assert _passes.cache_info().currsize == 1


OTHER = make_key("app", bytes([1] * 32))
WHO: list[tuple[list[tuple[str, str]], str | None, bool]] = [
    # headers                                                               our key  slot free
    ([], None, True),
    ([("xproxy-api-key", OURS)], OURS, True),
    ([("xProxy-Api-Key", f" {OURS} ")], OURS, True),
    ([("xproxy-api-key", f"Bearer {OURS}")], OURS, True),
    ([("xproxy-api-key", "whatever")], "whatever", True),
    ([("xproxy-api-key", "")], None, True),
    ([("xproxy-api-key", OURS), ("authorization", "Bearer sk-theirs")], OURS, False),
    ([("authorization", f"Bearer {OURS}")], OURS, True),
    ([("authorization", f"bearer {OURS}")], OURS, True),
    ([("authorization", OURS)], OURS, True),
    ([("x-api-key", OURS)], OURS, True),
    ([("api-key", OURS)], OURS, True),
    ([("x-api-key", "sk-xproxy-broken")], "sk-xproxy-broken", True),
    ([("x-api-key", ADMIN)], ADMIN, True),
    ([("authorization", f"Bearer {ADMIN}")], ADMIN, True),
    ([("authorization", "Bearer sk-theirs")], None, False),
    ([("x-api-key", "sk-ant-theirs"), ("authorization", f"Bearer {OURS}")], OURS, False),
    ([("x-api-key", OTHER), ("xproxy-api-key", OURS)], OURS, True),
    ([("authorization", f"Bearer {OURS}"), ("x-api-key", OTHER)], OURS, True),
    ([("authorization", "Bearer ")], None, True),
    ([("authorization", "")], None, True),
    ([("xproxy-api-key", OURS), ("xproxy-forward-authorization", "Bearer sk")], OURS, False),
    ([("xproxy-api-key", OURS), ("xproxy-forward-x", "y")], OURS, True),
    ([("accept", OURS)], None, True),
]


@pytest.mark.parametrize(("headers", "key", "free"), WHO)
def test_who_calls(headers: list[tuple[str, str]], key: str | None, free: bool) -> None:  # noqa: FBT001
    """Our key is found in its own header or in the provider's slot, which it leaves free."""
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    assert our_key_and_provider_key(pairs, ADMIN.__eq__) == (key, free)


ONLY: list[tuple[list[tuple[str, str]], str | None]] = [
    ([("authorization", "Bearer sk-a")], "sk-a"),
    ([("X-Api-Key", "sk-a"), ("authorization", "bearer sk-a"), ("api-key", "")], "sk-a"),
    ([("authorization", "Bearer sk-a"), ("x-api-key", "sk-b")], None),
    ([("authorization", "Bearer sk-a"), ("xproxy-forward-x-api-key", "sk-a")], None),
    ([("authorization", f"Bearer {OURS}")], None),
    ([("authorization", "Bearer other")], None),
    ([("cookie", "sk-a")], None),
]


@pytest.mark.parametrize(("headers", "key"), ONLY)
def test_the_only_key(headers: list[tuple[str, str]], key: str | None) -> None:
    """One key in all slots, that LiteLLM may have made: whoever shows two says whose they are."""
    assert only_key((name.encode(), value.encode()) for name, value in headers) == key


def test_bare_key() -> None:
    """`Bearer` is taken off in any case, once."""
    assert bare_key(b"BEARER  a") == "a"
    assert bare_key(b"bearer-a") == "bearer-a"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"Incorrect API key provided: sk-proj-****abcd.", b"Incorrect API key provided: ***."),
        (b'"key sk-ant-api03-AbC_d-1234567890"', b'"key ***"'),
        (b"header Authorization: Bearer abc.def.ghi", b"header Authorization: ***"),
        (b"in organization org-AbCdEf123 on tokens", b"in organization *** on tokens"),
        (b"AIzaSyA1234567890abcdefghijk", b"***"),
        (b'"org_level_limits" of proj_abcdef12', b'"org_level_limits" of ***'),
        (b"a risk-assessment of the task-force", b"a risk-assessment of the task-force"),
        (b'{"error":{"message":"no such model"}}', b'{"error":{"message":"no such model"}}'),
        (b"no such key: a.private/gateways+key=", b"no such key: ***"),
    ],
)
def test_scrub(body: bytes, expected: bytes) -> None:
    """Keys, masked or whole, and the ids of their owners do not reach a caller who has neither.

    The key that was sent is known, whatever it looks like.
    """
    assert scrub(body, b"a.private/gateways+key=") == expected


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([], None),
        ([b"0"], 0),
        ([b"2"], 2),
        ([b"999"], 999),
        ([b"1000"], None),
        ([b"9" * 100_000], None),
        ([b"-1"], None),
        ([b"+1"], None),
        ([b"1.0"], None),
        ([b"1_0"], None),
        ([b" 1"], None),
        ([b""], None),
        ([b"one"], None),
        ([b"\xd9\xa1"], None),  # a digit of another script
        ([b"1", b"2"], None),
    ],
)
def test_what_an_sdk_says_of_its_tries(values: list[bytes], count: int | None) -> None:
    """A small number counts; whatever else stands there is passed over, not refused."""
    assert retry_count([(b"x-stainless-retry-count", value) for value in values]) == count


@pytest.mark.parametrize(
    "name",
    [
        *sorted(name.decode() for name in CREDENTIALS),
        *("xProxy-Api-Key", "x-portkey-config", "x-litellm-key", "xproxy-forward-authorization"),
        *("Cookie", "set-cookie2", "Proxy-Authorization", "WWW-Authenticate", "x-auth-user"),
        *("x-amz-security-token", "x-amz-access-key-id", "x-amz-secret-access-key"),
        *("ocp-apim-subscription-key", "x-functions-key", "X_API_KEY", "apikey", "x-accesstoken"),
        *("x-csrf-token", "x-hub-signature-256", "x-session-id", "x-client-cert", "x-password"),
    ],
)
def test_headers_that_are_not_stored(name: str) -> None:
    """Every slot of a key, a provider's or ours, of a session, or of whoever stands in front."""
    assert tells_secret(name)
    assert tells_secret(name.upper())


@pytest.mark.parametrize(
    "name",
    [
        *("content-type", "user-agent", "x-request-id", "openai-organization", "anthropic-beta"),
        *("anthropic-ratelimit-tokens-remaining", "x-ratelimit-limit-tokens", "retry-after"),
        *("x-amzn-bedrock-input-token-count", "x-stainless-retry-count", "x-amz-date", "etag"),
        *("strict-transport-security", "openai-processing-ms", "cf-ray", "server", ""),
    ],
)
def test_headers_that_are_stored(name: str) -> None:
    """What tells how a call went, counts of tokens among it."""
    assert not tells_secret(name)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("application/json", "application/json"),
        ("sk-ant-api03-abcdefgh", "***"),
        (f"used {OURS}.", "used ***."),
        ("Basic dXNlcjpwYXNzd29yZA==", "***"),
        ("Bearer abcdefgh1234", "***"),
        ("ü", "ü"),
    ],
)
def test_values_are_stored_without_keys(value: str, stored: str) -> None:
    """Whatever the header is called."""
    assert redacted(value) == stored


@pytest.mark.parametrize(
    ("uri", "stored"),
    [
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/"),
        ("https://user:word@eu.api.openai.com:443/v1", "https://eu.api.openai.com:443/v1"),
        ("https://a@b@host/v1", "https://host/v1"),
        ("https://host/v1beta/models?key=AIzaAbc", "https://host/v1beta/models"),
        ("https://host/#token", "https://host/"),
        ("user:word@host/path", "host/path"),
        ("https://host/publishers/claude@2024", "https://host/publishers/claude@2024"),
        ("https://host/sk-proj-12345678/v1", "https://host/***/v1"),
        ("no uri at all", "no uri at all"),
        ("", ""),
    ],
)
def test_uris_are_stored_without_keys(uri: str, stored: str) -> None:
    """No user, query or fragment; a path is what was called."""
    assert redacted_uri(uri) == stored
