"""What genai-prices (MIT) says, in the catalogue's terms: the source of most prices.

Its Python data is parsed as a syntax tree, so neither its code nor its dependencies are needed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pricing.catalogue import BASE, ModelEntry, PriceDataError, PriceFile, PriceRow, Resold

GENAI = "genai-prices"
"""The name it has in a row's `source`, before its version."""
PROVIDERS = ("anthropic", "openai", "azure")
"""The providers the catalogue covers: those that resell come after those whose models they sell."""

_UNITS = {
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
# These are listed without prices: the vendor charges nothing. Zero is then a price.
_FREE = re.compile(r"moderation|.*:free")
# Fees that every model of a provider takes, where its entries are of one mind about them.
_COMMON_FEES = ("web_search", "file_search")
# Their tools come with their models wherever those run: Claude on Azure searches by Anthropic.
_TOOLS_COME_WITH = {"anthropic"}
# Azure's names of OpenAI's older models have no dots.
_SPELT = {("azure", "openai"): {"gpt-35-": "gpt-3.5-"}}


def genai_files(source_code: str, source: str, today: str) -> dict[str, PriceFile]:
    """By provider, its file as the text of genai-prices' `data.py` has it."""
    tree = ast.parse(source_code)
    assigned = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign))
    found = {}
    for item in getattr(assigned, "elts", ()):
        fields = {keyword.arg: keyword.value for keyword in item.keywords}
        if (name := ast.literal_eval(fields["id"])) in PROVIDERS:
            models = [_entry(_plain(model), source, today) for model in _elements(fields["models"])]
            found[name] = PriceFile(
                provider=name,
                pricing_urls=ast.literal_eval(fields["pricing_urls"]),
                resells=_resells(name, fields.get("fallback_model_providers")),
                fees=_common_fees(models, source, today),
                models=models,
            )
    return found


def _resells(provider: str, vendors: ast.expr | None) -> list[Resold]:
    names = ast.literal_eval(vendors) if vendors else ()
    return [
        Resold(
            vendor=name,
            own_tools=name not in _TOOLS_COME_WITH,
            spelt=_SPELT.get((provider, name), {}),
        )
        for name in names
        if name in PROVIDERS
    ]


def _common_fees(models: list[ModelEntry], source: str, today: str) -> list[PriceRow]:
    rows = [row.prices for model in models for row in model.prices]
    offers = {unit: {prices[unit] for prices in rows if unit in prices} for unit in _COMMON_FEES}
    fees = {unit: offer.pop() for unit, offer in offers.items() if len(offer) == 1}
    row = PriceRow(since=None, prices=fees, source=source, checked=today)
    return [row] if fees else []


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
    if _FREE.fullmatch(model["id"]):
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
        if key not in _UNITS:
            raise PriceDataError(f"{key} is not a unit we know")
        unit = _UNITS[key]
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
