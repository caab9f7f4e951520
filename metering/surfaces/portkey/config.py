"""Portkey's routing configs: JSON in a header, in snake_case or camelCase, as a plan.

| member                                  | of                                                    |
|-----------------------------------------|-------------------------------------------------------|
| strategy {mode, on_status_codes,        | a node; see `core.routing`                            |
| conditions, default}, targets           |                                                       |
| provider, virtual_key, api_key,         | a target                                              |
| custom_host, azure_resource_name, ...   |                                                       |
| override_params                         | both: merged, the inner one counts                    |
| retry {attempts, on_status_codes,       | both: the inner one counts                            |
| use_retry_after_header},                |                                                       |
| request_timeout, weight, name,          |                                                       |
| strict_open_ai_compliance               |                                                       |
| cache                                   | accepted; answers are not cached                      |

What would guard a call, and is not served here, is refused: hooks and guardrails. A target that
names nobody goes where the headers say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from metering.core import origins
from metering.core.credentials import SLUG
from metering.core.origins import Origin
from metering.core.routing import (
    CONFIG,
    MODES,
    PATTERNS_MAX,
    RETRIED,
    RETRIES_MAX,
    Azure,
    Mode,
    Node,
    Retry,
    Target,
    check_query,
    wrong,
)
from metering.core.sealing import Secret
from metering.errors import InvalidRequest

DEPTH_MAX = 5
TARGETS_MAX = 100
"""Of all nodes together."""
TIMEOUT_MS_MAX = 3_600_000
WEIGHT_MAX = 1_000_000
_AS_THEY_ARE = frozenset({"override_params", "conditions"})
"""Members whose own members are the request's, or names: no case is changed in them."""
_REFUSED = re.compile(
    r"(before|after)_request_hooks|(default_)?(input|output)_(guardrails|mutators)"
)
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_CODES = "must be a list of HTTP statuses: [429, 503]"

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def from_config(text: str, base: Target) -> Node:
    """The plan of a config; `base` is what the headers say. Raises InvalidRequest."""
    if not text.startswith("{"):
        raise InvalidRequest(
            "Invalid config id passed: configs are not stored here; send the config itself as JSON",
            code="invalid_config",
            field=CONFIG,
        )
    try:
        config = _snake(_decode(text.encode()))
    except (ValueError, RecursionError):
        raise InvalidRequest(
            "Invalid config passed. You need to pass a valid json",
            code="invalid_config",
            field=CONFIG,
        ) from None
    plan = _Reader().node(config, base, "config", 0)
    if plan.patterns > PATTERNS_MAX:
        raise wrong("config", f"has more than {PATTERNS_MAX} patterns in its conditions")
    providers = {it.provider for it in plan.targets if it.credential is None}
    if len(providers) < 2:
        return plan
    # a key of one provider's: nobody knows whose, unless the headers name him
    return plan.each(lambda it: replace(it, slot=it.provider == base.provider))


def _snake(value: Any) -> Any:
    if isinstance(value, list):
        return [_snake(it) for it in value]
    if not isinstance(value, dict):
        return value
    named = {_CAPITAL.sub(r"_\1", key).lower(): it for key, it in value.items()}
    return {key: it if key in _AS_THEY_ARE else _snake(it) for key, it in named.items()}


class _Reader:
    """Reads one config."""

    def __init__(self) -> None:
        self._targets = 0

    def node(self, config: Any, above: Target, where: str, depth: int) -> Node:
        """The node of an object; `above` is what it inherits."""
        if not isinstance(config, dict):
            raise wrong(where, "must be an object")
        self._targets += 1
        if depth > DEPTH_MAX or self._targets > TARGETS_MAX:
            problem = f"has more than {TARGETS_MAX} targets, or more than {DEPTH_MAX} in each other"
            raise wrong(where, problem)
        for name in config:
            if _REFUSED.fullmatch(name) and config[name]:
                raise wrong(f"{where}.{name}", "is not served here: nothing would guard the call")
        target = _inherited(config, above, where)
        targets = config.get("targets")
        if targets is None and config.get("strategy") is not None:
            raise wrong(f"{where}.targets", "is missing: a strategy chooses among targets")
        if targets is None:
            return Node(target=target, name=target.name, weight=target.weight)
        if not isinstance(targets, list) or not targets:
            raise wrong(f"{where}.targets", "must be a list of targets, one or more")
        nodes = [
            self.node(it, target, f"{where}.targets[{at}]", depth + 1)
            for at, it in enumerate(targets)
        ]
        return _chosen(config.get("strategy"), target, tuple(nodes), where)


def _chosen(strategy: Any, target: Target, nodes: tuple[Node, ...], where: str) -> Node:
    place = f"{where}.strategy"
    if not isinstance(strategy, dict):
        raise wrong(place, 'must be an object with a mode: {"mode": "fallback"}')
    mode: Mode = strategy.get("mode", "single")
    if mode not in MODES:
        raise wrong(f"{place}.mode", f"must be one of {', '.join(MODES)}")
    named = [it.name for it in nodes if it.name is not None]
    if mode == "conditional" and len(set(named)) < len(named):
        raise wrong(f"{where}.targets", "has two targets of one name")
    default = strategy.get("default")
    if default is not None and default not in named:
        raise wrong(f"{place}.default", "must be the name of a target")
    if mode == "loadbalance" and not any(it.weight for it in nodes):
        raise wrong(f"{where}.targets", "have no weight among them")
    return Node(
        mode=mode,
        nodes=nodes,
        on_status_codes=_codes(strategy.get("on_status_codes"), f"{place}.on_status_codes"),
        conditions=_conditions(strategy.get("conditions"), named, f"{place}.conditions"),
        default=default,
        name=target.name,
        weight=target.weight,
    )


def _conditions(
    value: Any, named: list[str], where: str
) -> tuple[tuple[Mapping[str, Any], str], ...]:
    found = []
    for at, it in enumerate(_list(value, where)):
        place = f"{where}[{at}]"
        if not isinstance(it, dict) or it.get("then") not in named:
            raise wrong(f"{place}.then", "must be the name of a target")
        check_query(it.get("query"), f"{place}.query")
        found.append((it["query"], it["then"]))
    return tuple(found)


def _inherited(config: dict[str, Any], above: Target, where: str) -> Target:
    """The target of an object: what it says, else what stands above it. Whoever names a provider
    or a virtual key of his own leaves the other, and the host, behind."""
    own = config.get("provider"), config.get("virtual_key")
    values: dict[str, Any] = {
        "index": where,
        "name": _text(config, "name", where),
        "weight": _weight(config.get("weight", 1), f"{where}.weight"),
    }
    if own != (None, None):
        credential = _text(config, "virtual_key", where)
        if credential is not None and not SLUG.fullmatch(credential):
            raise wrong(f"{where}.virtual_key", "must be the slug of a stored credential")
        values |= {
            "provider": _text(config, "provider", where),
            "credential": credential,
            "api_key": None,
            "host": None,
            "azure": Azure(),
        }
    if (key := _text(config, "api_key", where)) is not None:
        values["api_key"] = Secret(key)
    if "custom_host" in config:
        field = f"{CONFIG}: {where}.custom_host"
        values |= {"host": host(_text(config, "custom_host", where), field), "host_field": field}
    names = {it: f"azure_{name.replace('-', '_')}" for it, name in AZURE.items()}
    if any(config.get(it) is not None for it in (*names.values(), "azure_auth_mode")):
        texts = {it: _text(config, name, where) for it, name in names.items()}
        check_mode(_text(config, "azure_auth_mode", where), f"{CONFIG}: {where}.azure_auth_mode")
        values["azure"] = deployment(texts)
    if "override_params" in config:
        values["override"] = {**above.override, **_override(config["override_params"], where)}
    if "retry" in config:
        values["retry"] = _retry(config["retry"], f"{where}.retry")
    if "request_timeout" in config:
        most = (1, TIMEOUT_MS_MAX)
        values["timeout_ms"] = _number(config["request_timeout"], f"{where}.request_timeout", most)
    if "strict_open_ai_compliance" in config:
        values["strict"] = config["strict_open_ai_compliance"] is not False
    return replace(above, **values)


AZURE = {
    "resource": "resource-name",
    "deployment": "deployment-id",
    "api_version": "api-version",
    "model": "model-name",
    "token": "ad-token",
}
"""What a call says of a deployment, and by which words: the header's, after `x-portkey-azure-`."""


def deployment(texts: Mapping[str, str | None]) -> Azure:
    """A deployment of what is said, by `AZURE`'s names."""
    token = texts.get("token")
    return Azure(**{**texts, "token": None if token is None else Secret(token)})  # type: ignore[arg-type]


def check_mode(text: str | None, field: str) -> None:
    """Raise InvalidRequest for an identity that nobody here can take on."""
    if text is not None and text.lower() not in ("apikey", "api-key", "default"):
        raise InvalidRequest(
            f"{field}: {text[:32]!r} is not served; send the resource's key, or a token of Entra's "
            "in x-portkey-azure-ad-token",
            code="invalid_header",
            field=field,
        )


def _override(value: Any, where: str) -> dict[str, Raw]:
    if not isinstance(value, dict):
        raise wrong(f"{where}.override_params", "must be an object of request members")
    return {name: Raw(_encode(it)) for name, it in value.items()}


def _retry(value: Any, where: str) -> Retry:
    if not isinstance(value, dict):
        raise wrong(where, 'must be an object: {"attempts": 3}')
    codes = _codes(value.get("on_status_codes"), f"{where}.on_status_codes")
    header = value.get("use_retry_after_header", value.get("use_retry_after_headers"))
    return Retry(
        _number(value.get("attempts", 0), f"{where}.attempts", (0, RETRIES_MAX)),
        codes or RETRIED,
        header is True,
    )


def _codes(value: Any, where: str) -> tuple[int, ...]:
    codes = _list(value, where)
    if not all(type(it) is int and 100 <= it <= 599 for it in codes):
        raise wrong(where, _CODES)
    return tuple(codes)


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(where, "must be a list")
    return value


def _number(value: object, where: str, span: tuple[int, int]) -> int:
    least, most = span
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise wrong(where, f"must be a whole number from {least} to {most}")


def _weight(value: Any, where: str) -> int:
    if type(value) not in (int, float) or not 0 <= value <= WEIGHT_MAX:
        raise wrong(where, f"must be a number from 0 to {WEIGHT_MAX}")
    return int(value * 1_000_000)


def _text(config: dict[str, Any], name: str, where: str) -> str | None:
    value = config.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > 4096 or not value.isprintable():
        raise wrong(f"{where}.{name}", "must be a text")
    return value


def host(text: str | None, field: str) -> Origin | None:
    """A custom host, read; the rules of whoever runs the service judge it later."""
    if text is None:
        return None
    try:
        return origins.parse(text)
    except InvalidRequest as fault:
        raise origins.of_field(fault, field) from None
