"""The unified surface: what its headers and configs say, and its words for an error."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from metering.core.annotations import NONE, Annotations
from metering.core.limits import Limit, Refusal, Refused
from metering.core.routing import Azure, Node, Retry, Target
from metering.errors import InvalidApiKey, InvalidRequest, NotAllowed, OurFault, RateLimited
from metering.surfaces import UNIFIED
from metering.surfaces.base import Route

PLAIN, MESSAGES, PORTKEY, PORTKEY_MESSAGES = UNIFIED
Headers = dict[str, str]


def headers(said: Headers) -> list[tuple[bytes, bytes]]:
    """Portkey's headers as they come."""
    return [(f"x-portkey-{name}".encode(), value.encode()) for name, value in said.items()]


def plan(said: Headers) -> Node:
    """What they make of a call's way."""
    return PLAIN.plan(headers(said))


def target(said: Headers) -> Target:
    """The same of one that has one target."""
    found = plan(said).target
    assert found is not None
    return found


def test_whose_call_it_is() -> None:
    """One header of Portkey's makes it Portkey's."""
    assert PLAIN.of([(b"content-type", b"x")]) is PLAIN
    assert PLAIN.of(headers({"provider": "openai"})) is PORTKEY
    assert MESSAGES.of(headers({"api-key": "k"})) is PORTKEY_MESSAGES
    assert PORTKEY.of([]) is PORTKEY


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Target()),
        ({"provider": " groq "}, Target(provider="groq")),
        ({"virtual-key": "main", "provider": ""}, Target(credential="main")),
        ({"strict-open-ai-compliance": "False"}, Target(strict=False)),
        ({"strict-open-ai-compliance": "true"}, Target()),
        ({"retry-count": "3", "request-timeout": "500"}, Target(retry=Retry(3), timeout_ms=500)),
        ({"request-timeout": "0"}, Target()),
        (
            {"azure-resource-name": "r", "azure-deployment-id": "d", "azure-api-version": "v1"},
            Target(azure=Azure("r", "d", "v1")),
        ),
        ({"mode": "proxy groq"}, Target(provider="groq")),
        ({"mode": "proxy groq", "provider": "openai"}, Target(provider="openai")),
        ({"mode": "single"}, Target()),
        ({"azure-model-name": "gpt-4o"}, Target(azure=Azure(model="gpt-4o"))),
        ({"azure-auth-mode": "apiKey"}, Target()),
        (
            {"anthropic-beta": "files", "openai-organization": "org"},
            Target(headers=((b"anthropic-beta", b"files"), (b"openai-organization", b"org"))),
        ),
        ({"cache": "simple", "debug": "false", "package-version": "portkey-2.3.4"}, Target()),
    ],
)
def test_headers(said: Headers, expected: Target) -> None:
    """Each says its part of the one target; those that are not ours to read say nothing."""
    assert target(said) == expected


def test_an_identity_that_nobody_here_has() -> None:
    """Ignoring it would call as somebody else: it is refused, and says what helps."""
    for said in (
        {"azure-auth-mode": "entra"},
        {"config": '{"azure_auth_mode":"managed"}'},
    ):
        with pytest.raises(InvalidRequest, match="x-portkey-azure-ad-token") as caught:
            plan(said)
        assert (caught.value.field or "").replace("_", "-").endswith("azure-auth-mode")


def test_a_token_of_entras_does_not_show() -> None:
    """By either way to say it."""
    for said in ({"azure-ad-token": "ey.secret"}, {"config": '{"azure_ad_token":"ey.secret"}'}):
        token = target(said).azure.token
        assert token is not None
        assert token.reveal() == "ey.secret"
        assert "ey.secret" not in repr(target(said))


CONFIGS: list[tuple[dict[str, Any], Any]] = [
    ({}, ["config", "base"]),
    ({"provider": "anthropic"}, ["config", "anthropic"]),
    ({"virtual_key": "main"}, ["config", "main"]),
    ({"virtualKey": "main"}, ["config", "main"]),
    ({"cache": {"mode": "simple"}, "input_guardrails": []}, ["config", "base"]),
    (
        {"strategy": {"mode": "fallback"}, "targets": [{"provider": "a"}, {"virtual_key": "b"}]},
        ["config.targets[0]", "a", "config.targets[1]", "b"],
    ),
    (
        {
            "strategy": {"mode": "loadbalance"},
            "targets": [
                {"strategy": {"mode": "single"}, "targets": [{"provider": "x"}]},
                {"weight": 0.5},
            ],
        },
        ["config.targets[0].targets[0]", "x", "config.targets[1]", "base"],
    ),
]


@pytest.mark.parametrize(("config", "leaves"), CONFIGS)
def test_configs(config: dict[str, Any], leaves: list[str]) -> None:
    """Targets by their places; what they leave open the headers say."""
    found: list[str | None] = []

    def walk(node: Node) -> None:
        if node.target is not None:
            found.extend((node.target.index, node.target.credential or node.target.provider))
        for it in node.nodes:
            walk(it)

    walk(plan({"provider": "base", "config": json.dumps(config)}))
    assert found == leaves


def test_targets_inherit() -> None:
    """From the config above them, and from the headers; the inner word counts."""
    config = {
        "retry": {"attempts": 2, "on_status_codes": [418], "use_retry_after_header": True},
        "override_params": {"temperature": 0, "maxTokens": 5},
        "requestTimeout": 100,
        "strict_open_ai_compliance": False,
        "strategy": {"mode": "fallback", "onStatusCodes": [429]},
        "targets": [
            {"override_params": {"temperature": 1}},
            {"retry": {"attempts": 0}, "provider": "openai", "request_timeout": 7},
        ],
    }
    node = plan({"custom-host": "https://a.example", "config": json.dumps(config)})
    assert node.on_status_codes == (429,)
    first, second = (it.target for it in node.nodes)
    assert first is not None
    assert second is not None
    assert first.retry == Retry(2, (418,), use_retry_after=True)
    assert {name: bytes(it) for name, it in first.override.items()} == {
        "temperature": b"1",
        "maxTokens": b"5",
    }
    assert (first.timeout_ms, first.strict) == (100, False)
    assert first.host is not None
    assert (second.retry.attempts, second.timeout_ms) == (0, 7)
    assert second.host is None, "whoever names a provider leaves the host of another behind"


def test_a_key_in_a_config_does_not_show() -> None:
    """No trace or log has it by accident."""
    found = target({"config": '{"provider":"openai","api_key":"sk-secret-of-mine"}'})
    assert found.api_key is not None
    assert found.api_key.reveal() == "sk-secret-of-mine"
    assert "sk-secret" not in repr(found)


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("[]", "x-portkey-config"),
        ("pc-saved", "x-portkey-config"),
        ("{'a':1}", "x-portkey-config"),
        ('{"a":' * 5000, "x-portkey-config"),
        ('{"targets":{}}', "config.targets"),
        ('{"targets":[1],"strategy":{"mode":"single"}}', "config.targets[0]"),
        ('{"targets":[{}]}', "config.strategy"),
        ('{"strategy":{"mode":"best"}}', "config.targets"),
        ('{"targets":[{}],"strategy":{"mode":"best"}}', "config.strategy.mode"),
        ('{"targets":[{}],"strategy":{"on_status_codes":["x"]}}', "on_status_codes"),
        ('{"targets":[{"weight":0}],"strategy":{"mode":"loadbalance"}}', "config.targets"),
        ('{"targets":[{"weight":-1}],"strategy":{"mode":"single"}}', "config.targets[0].weight"),
        ('{"targets":[{}],"strategy":{"mode":"conditional","default":"x"}}', "strategy.default"),
        (
            '{"targets":[{"name":"a"}],"strategy":{"mode":"conditional","conditions":[{"then":"b"}]}}',
            "config.strategy.conditions[0].then",
        ),
        (
            '{"targets":[{"name":"a"},{"name":"a"}],"strategy":{"mode":"conditional"}}',
            "config.targets",
        ),
        ('{"provider":1}', "config.provider"),
        ('{"virtual_key":"A B"}', "config.virtual_key"),
        ('{"custom_host":"x"}', "config.custom_host"),
        ('{"retry":3}', "config.retry"),
        ('{"retry":{"attempts":true}}', "config.retry.attempts"),
        ('{"request_timeout":"1"}', "config.request_timeout"),
        ('{"override_params":[]}', "config.override_params"),
        ('{"output_guardrails":["x"]}', "config.output_guardrails"),
        ('{"before_request_hooks":[{"id":"x"}]}', "config.before_request_hooks"),
    ],
)  # fmt: skip
def test_configs_that_make_no_sense(config: str, path: str) -> None:
    """Are refused by the path of what is wrong."""
    with pytest.raises(InvalidRequest) as caught:
        plan({"config": config})
    assert (caught.value.field or "").endswith(path)
    assert "nvalid config" in caught.value.message or "custom_host" in caught.value.message


def test_a_config_without_end() -> None:
    """Has too many targets, side by side or in each other."""
    many = {"strategy": {"mode": "fallback"}, "targets": [{}] * 101}
    deep: dict[str, Any] = {}
    for _ in range(7):
        deep = {"strategy": {"mode": "single"}, "targets": [deep]}
    for config in (many, deep):
        with pytest.raises(InvalidRequest, match="has more than"):
            plan({"config": json.dumps(config)})


def test_patterns_are_few() -> None:
    """All that conditions of one config have, wherever they stand: each takes time."""
    asked = {"$or": [{"params.model": {"$regex": str(at)}} for at in range(7)]}
    inner = {
        "strategy": {"mode": "conditional", "conditions": [{"query": asked, "then": "a"}] * 3},
        "targets": [{"name": "a"}],
    }
    config = {"strategy": {"mode": "single"}, "targets": [inner]}
    with pytest.raises(InvalidRequest, match="more than 20 patterns"):
        plan({"config": json.dumps(config)})
    asked["$or"].pop()
    assert plan({"config": json.dumps(config)}).patterns == 18


def test_a_key_that_is_null_is_none() -> None:
    """As if it were not there; an empty one would go to the provider."""
    assert target({"config": '{"provider":"openai","api_key":null}'}).api_key is None


def test_what_a_call_says_of_itself() -> None:
    """Metadata are properties, beside our own headers', which count first; so do users."""
    said = [
        *headers({"metadata": '{"_user":"ann","team":"blue","a":"1"}', "trace-id": "t"}),
        (b"xproxy-request-properties", b'{"a":"2"}'),
    ]
    found = PLAIN.annotate(said)
    assert found.user_id == "ann"
    assert found.properties == {"trace_id": "t", "team": "blue", "a": "2"}
    ours = PLAIN.annotate([*said, (b"xproxy-user-id", b"bob")])
    assert ours.user_id == "bob"
    assert PLAIN.annotate(headers({"provider": "x"})) is NONE


@pytest.mark.parametrize(
    "metadata",
    [
        '{"_user":"a b"}',
        '{"a":"' + "x" * 129 + '"}',
        '{"a":null}',
        '{"":"x"}',
        '{"a":"\\u0000"}',
        json.dumps({str(at): "x" for at in range(65)}),
        "[]",
    ],
)
def test_metadata_that_cannot_be_kept(metadata: str) -> None:
    """Is refused by the header's name."""
    with pytest.raises(InvalidRequest) as caught:
        PLAIN.annotate(headers({"metadata": metadata}))
    assert (caught.value.field or "").startswith("x-portkey-metadata")


def test_traces() -> None:
    """W3C's header says which trace a call of Portkey's is of, where its own does not."""
    parent = (b"traceparent", b"00-" + b"4b" * 16 + b"-" + b"00f067aa0ba902b7" + b"-01")
    found = PLAIN.annotate([*headers({"provider": "x"}), parent]).properties
    assert found == {"trace_id": "4b" * 16, "parent_span_id": "00f067aa0ba902b7"}
    own = PLAIN.annotate([*headers({"trace-id": "mine"}), parent]).properties
    assert own["trace_id"] == "mine"
    assert PLAIN.annotate([parent]) is NONE
    baggage = (b"baggage", b"team=blue;x=1, a%20b=c%20d , _user=eve, bad=" + b"x" * 129 + b", =y")
    both = PLAIN.annotate([*headers({"metadata": '{"team":"red"}'}), baggage])
    assert both.properties == {"team": "red", "a b": "c d"}
    assert both.user_id is None
    assert PLAIN.annotate([*headers({"provider": "x"}), (b"traceparent", b"00-zz")]) is NONE


@pytest.mark.parametrize(
    ("said", "members", "end_user", "key_user", "user", "prompt"),
    [
        (NONE, {}, None, None, None, None),
        (NONE, {}, "ann", None, "ann", None),
        (NONE, {}, "a person", None, None, None),
        (NONE, {}, "ann", "bob", None, None),
        (Annotations(user_id="u"), {}, "ann", None, "u", None),
        (NONE, {"prompt_id": '"p"', "cache_status": "true"}, None, None, None, "p"),
        (NONE, {"promptId": '"p"'}, "ann", None, "ann", "p"),
        (NONE, {"prompt_id": "5"}, None, None, None, None),
    ],
)
def test_bodies(
    said: Annotations,
    members: dict[str, str],
    end_user: str | None,
    key_user: str | None,
    user: str | None,
    prompt: str | None,
) -> None:
    """OpenAI's `user` is whom a call is for, if nothing else says so; a prompt id is a property."""
    raw = {name: msgspec.Raw(value.encode()) for name, value in members.items()}
    found = PLAIN.complete(said, raw, end_user=end_user, key_user=key_user)
    assert (found.user_id, found.properties.get("prompt_id")) == (user, prompt)


def refused(*limit_ids: str) -> Refused:
    """A refusal by these limits."""
    why = [
        Refusal(
            limit_id=it, epoch=1, unit="usd", mode="hard", max=1, settled=1, held=0, needed=1,
            holds=0,
        )
        for it in limit_ids
    ]  # fmt: skip
    return Refused(
        states=dict.fromkeys(limit_ids, "blocked"),
        blocked_limit_ids=limit_ids,
        retryable=False,
        refusals=tuple(why),
    )


@pytest.mark.parametrize(
    ("limit_ids", "own", "status", "kind", "code"),
    [
        (("virtual_key:main:budget",), (), 412, "virtual_key_exhaust_error", "04"),
        (("virtual_key:main:rate:requests:rpm",), (), 429, "virtual_key_rate_limit_error", "05"),
        (("virtual_key:m:rate:tokens:rpd", "x"), (), 412, "virtual_key_rate_limit_error", "04"),
        (("mine",), ("mine",), 412, "api_key_exhaust_error", "04"),
        (("team",), ("mine",), 412, "usage_limits_policy_exhaust_error", "04"),
    ],
)
def test_refusals(
    limit_ids: tuple[str, ...], own: tuple[str, ...], status: int, kind: str, code: str
) -> None:
    """With Portkey's status, type and code, by whose limit it is; ours are beside them."""
    found, _, body = PORTKEY.refusal(refused(*limit_ids), "r", b"{}", limit_ids=own)
    error = json.loads(body)
    assert (found, error["error"]["type"], error["error"]["code"]) == (status, kind, code)
    assert error["status"] == "failure"
    assert error["message"] == error["error"]["message"]
    assert [it["limit_id"] for it in error["xproxy_error"]["limits"]] == list(limit_ids)
    assert PLAIN.refusal(refused(*limit_ids), "r", b"{}")[0] == 400
    assert PORTKEY.refusal(refused("x"), "r", b"{}", 402)[0] == 402


@pytest.mark.parametrize(
    ("fault", "status", "code", "kind"),
    [
        (InvalidApiKey(), 401, "03", "invalid_request_error"),
        (InvalidApiKey(code="provider_key_missing"), 401, None, "invalid_request_error"),
        (InvalidApiKey(code="credential_expired"), 401, "01", "virtual_key_expired_error"),
        (RateLimited(), 429, "05", "rate_limit_error"),
        (NotAllowed(code="key_model_access_denied"), 403, None, "model_not_allowed_error"),
        (InvalidRequest("no", field="a.b"), 400, None, "invalid_request_error"),
        (OurFault(), 503, None, "server_error"),
    ],
)
def test_faults(fault: Any, status: int, code: str | None, kind: str) -> None:
    """OpenAI's grammar for OpenAI's SDK, Portkey's codes beside; Anthropic's for Anthropic's."""
    found, _, body = PORTKEY.error(fault, "r")
    error = json.loads(body)["error"]
    assert (found, error["type"], error["param"]) == (status, kind, fault.field)
    assert error["code"] == (code or fault.code)
    assert "status" not in json.loads(PLAIN.error(fault, "r")[2])
    assert json.loads(PORTKEY_MESSAGES.error(fault, "r")[2])["type"] == "error"


def test_what_every_answer_says() -> None:
    """A trace, the client's own if it is text; of a fault of ours that it is no provider's."""
    assert dict(PORTKEY.about_request(headers({"trace-id": "t"}), "r")) == {
        b"x-portkey-trace-id": b"t",
        b"x-portkey-cache-status": b"DISABLED",
    }
    for odd in ("", "x" * 300, "a\x07"):
        told = dict(PORTKEY.about_request(headers({"trace-id": odd}), "r"))
        assert told[b"x-portkey-trace-id"] == b"r"
    assert PLAIN.about_request([], "r") == ()
    gateway = (b"x-portkey-gateway-exception", b"true")
    assert gateway in PORTKEY.error(OurFault(), "r")[1]
    assert gateway not in PORTKEY.error(InvalidRequest("no"), "r")[1]
    assert gateway not in PLAIN.error(OurFault(), "r")[1]


def test_whose_list_of_models() -> None:
    """Ours, of a client that names nobody: else a provider's, as any call."""
    path = b"/v1/models"
    assert PLAIN.lists(b"GET", path, [(b"x-portkey-api-key", b"k")])
    assert not PLAIN.lists(b"HEAD", path, [])
    assert not PLAIN.lists(b"GET", path + b"/x", [])
    assert not PLAIN.lists(b"GET", path, [(b"anthropic-version", b"1")])
    for name in ("provider", "virtual-key", "config", "custom-host"):
        assert not PLAIN.lists(b"GET", path, headers({name: "x"}))


def test_what_answers_say_of_their_way() -> None:
    """Portkey's headers to its clients; to others who served them, and what was lost."""
    route = Route(
        trace_id="t",
        provider="anthropic",
        index="config.targets[1]",
        retries=2,
        dropped=("seed", "logit_bias"),
        changed=("temperature",),
    )
    odd = msgspec.structs.replace(route, dropped=("metadata.a\r\nset-cookie: b=ü",))
    assert dict(PLAIN.about_route(odd))[b"xproxy-dropped-params"] == (
        b"metadata.a??set-cookie: b=?"
    )
    assert dict(PORTKEY.about_route(route)) == {
        b"x-portkey-trace-id": b"t",
        b"x-portkey-provider": b"anthropic",
        b"x-portkey-last-used-option-index": b"config.targets[1]",
        b"x-portkey-retry-attempt-count": b"2",
        b"x-portkey-cache-status": b"DISABLED",
        b"x-portkey-dropped-params": b"seed, logit_bias",
        b"x-portkey-changed-params": b"temperature",
    }
    assert dict(PLAIN.about_route(route)) == {
        b"xproxy-provider": b"anthropic",
        b"xproxy-dropped-params": b"seed, logit_bias",
        b"xproxy-changed-params": b"temperature",
    }


def test_what_answers_say_of_money() -> None:
    """The cost, and what is left of the tightest budget; never less than nothing."""

    def limit(unit: Any) -> Limit:
        return Limit(
            application_id="a", limit_id="l", limit_name="l", unit=unit, max=1, epoch=1,
            created_ms=1, updated_ms=1,
        )  # fmt: skip

    left = [(limit("usd"), 5 * 10**11), (limit("usd"), 2 * 10**12), (limit("tokens"), -3)]
    assert dict(PORTKEY.about_cost(1_500, left)) == {
        b"x-portkey-cost": b"0.0000000015",
        b"x-portkey-budget-remaining": b"0.5",
        b"x-portkey-tokens-remaining": b"0",
    }
    assert PORTKEY.about_cost(None, []) == []
    assert PLAIN.about_cost(1, left) == ()
