"""What the upstream price lists say, in the catalogue's terms. Read as text, never executed.

genai-prices (MIT) is the source: its Python data is parsed as a syntax tree, so neither its code
nor its dependencies are needed. LiteLLM's list (MIT) adds what the former lacks (output bounds,
scope multipliers, models it does not know) and is what the catalogue is checked against.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pricing.catalogue import BASE, ModelEntry, PriceDataError, PriceRow, ScopeRow

GENAI, LITELLM = "genai-prices", "litellm"
"""The names the sources have in a row's `source`, before their version."""
PROVIDERS = ("anthropic", "openai")
"""The providers the catalogue covers."""

_GENAI_UNITS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "cache_audio_read_mtok": "cache_read_audio",
    "input_image_mtok": "input_image",
    "output_image_mtok": "output_image",
    "cache_image_read_mtok": "cache_read_image",
    "output_reasoning_mtok": "reasoning",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "audio_hours": "audio_seconds",
    "input_audio_hours": "audio_seconds",
    "input_mchars": "input_characters",
    "requests_kcount": "requests",
}
_LITELLM_UNITS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "input_cost_per_image_token": "input_image",
    "output_cost_per_image_token": "output_image",
    "cache_read_input_image_token_cost": "cache_read_image",
}
_LITELLM_FIELD = re.compile(
    "(?P<name>" + "|".join(sorted(_LITELLM_UNITS, key=len, reverse=True)) + ")"
    r"(_above_(?P<above>\d+)k_tokens)?(_(?P<tier>batches|flex|priority))?"
)
_LITELLM_PROVIDERS = {"text-completion-openai": "openai"}
# Models LiteLLM knows and genai-prices does not are taken if they are called by tokens of text.
_TEXT_MODES = {"chat", "completion", "responses", "embedding"}
# Where genai-prices has no price for these at all, LiteLLM's is taken and the row says so: audio at
# the text rate would be a sixteenth of the bill.
_GAPS = ("cache_read", "input_audio", "output_audio", "web_search")
# genai-prices lists these without prices: the vendor charges nothing. Zero is then a price.
_FREE = {"moderation"}
# Where LiteLLM's bound is lower than what the vendor lets a model write, or missing.
_OUTPUT_BOUNDS = {
    "babbage-002": 16_384,
    "chatgpt-4o-latest": 16_384,
    "claude-2": 4_096,
    "claude-3-5-haiku-latest": 8_192,
    "claude-3-5-sonnet": 8_192,
    "claude-3-7-sonnet-latest": 128_000,
    "claude-3-haiku": 4_096,
    "claude-3-opus-latest": 4_096,
    "claude-3-sonnet": 4_096,
    "claude-opus-4-0": 32_000,
    "claude-opus-4-1": 32_000,
    "claude-sonnet-4-0": 64_000,
    "codex-mini": 100_000,
    "davinci-002": 16_384,
    "gpt-3.5-turbo-0613": 4_096,
    "gpt-4": 8_192,
    "gpt-4-32k": 32_768,
    "gpt-4-vision-preview": 4_096,
    "gpt-4.5-preview": 16_384,
    "gpt-4o-mini-2024-07-18.ft-": 16_384,
    "o1-mini": 65_536,
    "o1-preview": 32_768,
}


def genai_entries(
    source_code: str, source: str, today: str
) -> dict[str, tuple[list[str], list[ModelEntry]]]:
    """By provider, (pricing URLs, entries) from the text of genai-prices' `data.py`."""
    tree = ast.parse(source_code)
    assigned = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign))
    found = {}
    for item in getattr(assigned, "elts", ()):
        fields = {keyword.arg: keyword.value for keyword in item.keywords}
        if (name := ast.literal_eval(fields["id"])) in PROVIDERS:
            models = [_entry(_plain(model), source, today) for model in _elements(fields["models"])]
            found[name] = (ast.literal_eval(fields["pricing_urls"]), models)
    return found


def _elements(node: ast.expr) -> list[ast.expr]:
    if not isinstance(node, ast.List):
        raise PriceDataError(f"line {node.lineno}: expected a list")
    return node.elts


def _plain(node: ast.expr) -> Any:
    """A constructor call as a dict of its arguments with its name under `is`."""
    if isinstance(node, ast.List):
        return [_plain(item) for item in node.elts]
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    name = ast.unparse(node.func)
    if name == "Decimal":
        return ast.literal_eval(node.args[0])
    if name == "datetime.date":
        return "{:04}-{:02}-{:02}".format(*(ast.literal_eval(arg) for arg in node.args))
    return {"is": name} | {str(keyword.arg): _plain(keyword.value) for keyword in node.keywords}


def _entry(model: Mapping[str, Any], source: str, today: str) -> ModelEntry:
    prices = model["prices"]
    if model["id"] in _FREE:
        prices = {"is": "ModelPrice", "input_mtok": "0", "output_mtok": "0"}
    blocks = prices if isinstance(prices, list) else [{"prices": prices}]
    variants = [v for v in model.get("price_variants") or () if len(v["prices"]) > 1]
    try:
        return ModelEntry(
            id=model["id"],
            match=sorted(_patterns(model["match"])),
            context_window=model.get("context_window"),
            prices=[
                _row(item, source, today) for item in (*blocks, *sorted(variants, key=_started))
            ],
        )
    except PriceDataError as error:
        raise PriceDataError(f"{source}: {model['id']}: {error}") from None


def _started(variant: Mapping[str, Any]) -> str:
    return str((variant.get("constraint") or {}).get("start_date", ""))


def _row(item: Mapping[str, Any], source: str, today: str) -> PriceRow:
    constraint = item.get("constraint") or {}
    if constraint.get("is", "StartDateConstraint") != "StartDateConstraint":
        raise PriceDataError(f"{constraint['is']} is not a date")
    base: dict[str, str] = {}
    above: dict[str, dict[str, str]] = {}
    for key, price in item["prices"].items():
        if key == "is":
            continue
        if key not in _GENAI_UNITS:
            raise PriceDataError(f"{key} is not a unit we know")
        unit = _GENAI_UNITS[key]
        base[unit] = price["base"] if isinstance(price, dict) else price
        for tier in price["tiers"] if isinstance(price, dict) else ():
            above.setdefault(str(tier["start"]), {})[unit] = tier["price"]
    return PriceRow(
        since=constraint.get("start_date"),
        service_tier=_tier(item.get("when")),
        prices=base,
        above=dict(sorted(above.items(), key=lambda pair: int(pair[0]))),
        source=source,
        checked=today,
    )


def _tier(when: Mapping[str, str] | None) -> str:
    if not when:
        return BASE
    if len(when) != 1 or next(iter(when)) not in {"service_tier", "processing", "speed"}:
        raise PriceDataError(f"{dict(when)} is not a service tier")
    return next(iter(when.values()))


def _patterns(clause: Mapping[str, Any]) -> Iterator[str]:
    """A match clause as patterns of the catalogue: names, `#` digits, `*` ends."""
    kind = clause["is"]
    if kind == "ClauseOr":
        for part in clause["or_"]:
            yield from _patterns(part)
    elif kind == "ClauseEquals":
        yield clause["equals"].lower()
    elif kind == "ClauseStartsWith":
        yield clause["starts_with"].lower() + "*"
    elif kind == "ClauseContains":
        yield "*" + clause["contains"].lower() + "*"
    elif kind == "ClauseRegex":
        yield from _unroll(clause["regex"])
    else:
        raise PriceDataError(f"{kind} is not a clause we know")


def _unroll(regex: str) -> Iterator[str]:
    r"""`^claude-opus-5[-@]\d{8}$` names two patterns: `claude-opus-5-########`, and one with @."""
    text = regex.lower().removeprefix("^").removesuffix("$").replace(r"\.", ".")
    text = re.sub(r"\\d\{(\d)\}", lambda match: "#" * int(match[1]), text)
    choice = re.search(r"\[([-@:.]+)\]", text)
    texts = [text.replace(choice[0], c) for c in choice[1]] if choice else [text]
    if regex[:1] != "^" or regex[-1:] != "$" or re.search(r"[][\\(){}|*+?^$]", "".join(texts)):
        raise PriceDataError(f"{regex} is not a pattern we can say without a regular expression")
    yield from texts


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What LiteLLM's list says of one model name."""

    provider: str
    name: str
    mode: str
    prices: dict[tuple[str, str], dict[str, str]]
    """By (service tier, more than so many input tokens or ``), unit prices per `Unit.per`."""
    scopes: dict[str, str]
    max_output_tokens: int | None
    context_window: int | None


def litellm_list(content: bytes) -> list[Listed]:
    """The models of our providers in `model_prices_and_context_window_backup.json`."""
    rows = json.loads(content, parse_float=Decimal)
    listed = []
    for name, row in rows.items():
        vendor = row.get("litellm_provider", "")
        provider = _LITELLM_PROVIDERS.get(vendor, vendor)
        if provider in PROVIDERS and "/" not in name:
            listed.append(
                Listed(
                    provider=provider,
                    name=name.lower(),
                    mode=row.get("mode", ""),
                    prices=_listed_prices(row),
                    scopes=_listed_scopes(row),
                    max_output_tokens=_whole(row.get("max_output_tokens")),
                    context_window=_whole(row.get("max_input_tokens")),
                )
            )
    return listed


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _listed_prices(row: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    prices: dict[tuple[str, str], dict[str, str]] = {}
    for field, value in row.items():
        match = _LITELLM_FIELD.fullmatch(field)
        if match and value is not None:
            tier = {None: BASE, "batches": "batch"}.get(match["tier"], match["tier"])
            above = f"{match['above']}000" if match["above"] else ""
            unit = _LITELLM_UNITS[match["name"]]
            prices.setdefault((tier or BASE, above), {})[unit] = _per(value, 1_000_000)
    if fees := row.get("search_context_cost_per_query"):
        searches = _per(max(fees.values()), 1_000)
        prices.setdefault((BASE, ""), {})["web_search"] = searches
    return prices


def _per(value: Decimal | int, units: int) -> str:
    # The list's floats carry debris (5.0000000000000004E-8): 10^-9 USD per million is far below it.
    price = (Decimal(value) * units).quantize(Decimal("1e-9"))
    return f"{price:f}".rstrip("0").rstrip(".")


def _listed_scopes(row: Mapping[str, Any]) -> dict[str, str]:
    scopes = {
        scope: row[f"regional_processing_uplift_multiplier_{scope}"]
        for scope in ("eu", "us")
        if f"regional_processing_uplift_multiplier_{scope}" in row
    }
    scopes |= {k: v for k, v in row.get("provider_specific_entry", {}).items() if k in {"eu", "us"}}
    return {scope: _per(multiplier, 1) for scope, multiplier in scopes.items()}


def own_entry(listed: Listed, source: str, today: str) -> ModelEntry | None:
    """An entry for a model only LiteLLM knows; None if it is not called by tokens of text."""
    if listed.mode not in _TEXT_MODES or "input" not in listed.prices.get((BASE, ""), {}):
        return None
    rows = [
        PriceRow(
            since=None,
            service_tier=tier,
            prices=prices,
            above={
                start: {unit: p for unit, p in more.items() if unit in prices}
                for (other, start), more in listed.prices.items()
                if other == tier and start
            },
            source=source,
            checked=today,
        )
        for (tier, above), prices in listed.prices.items()
        if not above
    ]
    names = [listed.name, listed.name + ":*"] if listed.name.startswith("ft:") else [listed.name]
    return ModelEntry(id=listed.name, match=names, prices=rows)


def with_gaps_filled(entry: ModelEntry, listed: Iterable[Listed], source: str) -> ModelEntry:
    """The entry with units only LiteLLM prices, where it is of one mind about all its names."""
    bases = [item.prices.get((BASE, ""), {}) for item in listed]
    filled: dict[str, str] = {}
    for unit in _GAPS:
        offers = {base[unit] for base in bases if unit in base}
        if len(offers) == 1 and not any(unit in row.prices for row in entry.prices):
            filled[unit] = offers.pop()
    if not filled or "input" not in entry.prices[0].prices:
        return entry
    words = f"; {', '.join(filled)} from {source}"
    rows = [
        msgspec.structs.replace(row, prices=row.prices | filled, source=row.source + words)
        if row.service_tier == BASE
        else row
        for row in entry.prices
    ]
    return msgspec.structs.replace(entry, prices=rows)


def with_bounds(entry: ModelEntry, listed: Iterable[Listed], source: str, today: str) -> ModelEntry:
    """The entry with the token bounds and scope multipliers that LiteLLM lists for its names."""
    listed = list(listed)
    outputs = [item.max_output_tokens for item in listed if item.max_output_tokens]
    windows = [item.context_window for item in listed if item.context_window]
    scopes = {scope: ratio for item in listed for scope, ratio in item.scopes.items()}
    bounds = [*outputs, _OUTPUT_BOUNDS.get(entry.id, 0)]
    return msgspec.structs.replace(
        entry,
        max_output_tokens=max(bounds) or None,
        context_window=entry.context_window or max(windows, default=None),
        scopes=[
            ScopeRow(since=None, scope=scope, multiplier=ratio, source=source, checked=today)
            for scope, ratio in sorted(scopes.items())
        ],
    )
