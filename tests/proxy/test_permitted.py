"""What a key, and whom a call is for, allow a call to ask for."""

from __future__ import annotations

import json

import pytest

from metering.directory import Caller, Held
from metering.errors import InvalidRequest, NotAllowed
from metering.providers import DIALECTS
from metering.providers.base import NOTHING, Ask, Endpoint
from metering.proxy.permitted import asked, check_not_blocked, held_to
from metering.store.profiles import Rules

OPENAI, AZURE = DIALECTS["openai"], DIALECTS["azure.openai"]
JSON = b"application/json"
CHAT = b'{"messages": [], "model": "fast", "max_tokens": 5, "model": "fast"}'
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nfast\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--x--\r\n'
)


def caller(**members: object) -> Caller:
    """A key's caller."""
    return Caller(application_id="a", key_id="k", role="app", **members)  # type: ignore[arg-type]


def a_model(name: str) -> Ask:
    """A call of a model."""
    return Ask(model=name)


def test_a_request_names_the_other_model() -> None:
    """Once, the rest as it was; no other request is touched."""
    chat = OPENAI.endpoint("POST", "/v1/chat/completions")
    ask, body = asked(caller(aliases={"fast": "gpt-4o-mini"}), OPENAI, chat, CHAT, JSON)
    assert ask.model == "gpt-4o-mini"
    assert json.loads(body) == {"messages": [], "model": "gpt-4o-mini", "max_tokens": 5}
    assert asked(caller(aliases={"slow": "o3"}), OPENAI, chat, CHAT, JSON)[1] is CHAT
    assert asked(caller(), OPENAI, chat, CHAT, JSON)[0].model == "fast"
    other = OPENAI.endpoint("POST", "/v1/batches")
    assert asked(caller(aliases={"": "o3"}), OPENAI, other, b"{}", JSON) == (NOTHING, b"{}")


def test_a_form_cannot_name_another() -> None:
    """It is said, rather than sent as it is; a deployment is named by its path."""
    endpoint = OPENAI.endpoint("POST", "/v1/audio/transcriptions")
    kind = b"multipart/form-data; boundary=x"
    with pytest.raises(InvalidRequest, match="name 'whisper-1' itself"):
        asked(caller(aliases={"fast": "whisper-1"}), OPENAI, endpoint, FORM, kind)
    deployed = AZURE.endpoint("POST", "/openai/deployments/fast/chat/completions")
    body = b'{"messages": []}'
    ask, sent = asked(caller(aliases={"fast": "o3"}), AZURE, deployed, body, JSON)
    assert (ask.model, b"o3" in sent) == ("fast", False)


def test_every_list_must_have_the_model() -> None:
    """The key's, its team's and its customer's; their rates are the call's too."""
    metered = Endpoint("chat.completions", "metered")
    rules = Rules(models=("gpt-*",), rate_limits={"requests": 3})
    holding = (Held("team", "t", rules), Held("customer", "c", Rules(models=("*mini",))))
    key = caller(models=("gpt-4o-mini", "gpt-4o", "o3-mini"))
    held = held_to(key, holding, OPENAI, metered, a_model("gpt-4o-mini"))
    assert [(it.name, it.max) for it in held.rates] == [("team:t", 3)]
    for model, whose in (("gpt-5", "key"), ("o3-mini", "team"), ("gpt-4o", "customer")):
        with pytest.raises(NotAllowed) as refused:
            held_to(key, holding, OPENAI, metered, a_model(model))
        assert refused.value.code == f"{whose}_model_access_denied"
    assert held_to(caller(), (), OPENAI, metered, a_model("anything")) == caller()


def test_what_has_no_known_model() -> None:
    """Free calls pass, unmetered ones with the permission; one that names no model does not."""
    key = caller(models=("gpt-4o",))
    for kind, ok in (("free", True), ("unmetered", False), ("metered", False)):
        endpoint = Endpoint("other", kind)  # type: ignore[arg-type]
        if ok:
            assert held_to(key, (), OPENAI, endpoint, NOTHING) == key
        else:
            with pytest.raises(NotAllowed):
                held_to(key, (), OPENAI, endpoint, NOTHING)
    trusted = caller(models=("gpt-4o",), permissions=frozenset({"unmetered"}))
    assert held_to(trusted, (), OPENAI, Endpoint("other", "unmetered"), NOTHING) == trusted


def test_who_is_blocked() -> None:
    """One of those whom a call is for suffices."""
    fine, off = Held("user", "u", Rules(models=("m",))), Held("team", "t", Rules(blocked=True))
    check_not_blocked((fine,))
    with pytest.raises(NotAllowed) as refused:
        check_not_blocked((fine, off))
    assert refused.value.code == "team_blocked"
