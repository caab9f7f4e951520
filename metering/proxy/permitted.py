"""What a call may ask for by its key, and by whom it is for: models, and whether he is blocked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from metering.core.models import allows
from metering.directory import Caller, Held
from metering.errors import InvalidRequest, NotAllowed
from metering.providers.base import NOTHING, Ask, Dialect, Endpoint
from metering.providers.request import renamed


def check_not_blocked(holding: Sequence[Held]) -> None:
    """Raise NotAllowed for a call that is for somebody who is blocked."""
    for it in holding:
        if it.rules.blocked:
            raise NotAllowed(
                f"{it.kind} {it.name!r} is blocked, until an admin key unblocks it",
                code=f"{it.kind}_blocked",
            )


def asked(
    caller: Caller, dialect: Dialect, endpoint: Endpoint, body: bytes, content_type: bytes
) -> tuple[Ask, bytes]:
    """What a request asks for, and the request; with the model that the key calls in place of the
    one that it names, if there is one."""
    if endpoint.kind != "metered":
        return NOTHING, body
    ask = dialect.ask(endpoint, body, content_type)
    model = caller.aliases.get(ask.model) if caller.aliases else None
    if model is None or endpoint.model:
        return ask, body
    if not body.lstrip().startswith(b"{"):
        raise InvalidRequest(
            f"this key calls {model!r} for {ask.model!r}, and a form is sent as it comes: name "
            f"{model!r} itself",
            field="model",
        )
    body = renamed(body, model)
    return dialect.ask(endpoint, body, content_type), body


def held_to(
    caller: Caller, holding: Sequence[Held], dialect: Dialect, endpoint: Endpoint, ask: Ask
) -> Caller:
    """The caller, with the rates of whom the call is for; raises NotAllowed for a model that he or
    the key may not call."""
    if not caller.models and not holding:
        return caller
    if endpoint.kind != "free":
        lists = [("key", caller.models), *((it.kind, it.rules.models) for it in holding)]
        for whose, models in lists:
            if models:
                _check_model(caller, (whose, models), dialect.name, endpoint, ask)
    rates = (*caller.rates, *(rate for it in holding for rate in it.rates))
    return msgspec.structs.replace(caller, rates=rates)


def _check_model(
    caller: Caller, of: tuple[str, Sequence[str]], provider: str, endpoint: Endpoint, ask: Ask
) -> None:
    """Where nobody knows the model, no key passes but one that may call what is not metered."""
    whose, models = of
    if endpoint.kind == "unmetered":
        if caller.may("unmetered"):
            return
        what = "which one is called here is not known"
    elif allows(models, provider, ask.model):
        return
    else:
        what = f"{ask.model!r} is none of them"
    raise NotAllowed(
        f"this {whose} may only call {', '.join(models[:10])}, and {what}",
        code=f"{whose}_model_access_denied",
        field="model",
    )
