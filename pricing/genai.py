"""What genai-prices (MIT) says, in the catalogue's terms: the source of most prices.

Its Python data is parsed as a syntax tree, so neither its code nor its dependencies are needed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pricing.catalogue import BASE, ModelEntry, PriceDataError, PriceFile, PriceRow, Resold

GENAI = "genai-prices"
"""The name it has in a row's `source`, before its version."""
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
    "input_text_mtok": "input_text",
    "output_text_mtok": "output_text",
    "input_video_mtok": "input_video",
    "output_video_mtok": "output_video",
    "cache_video_read_mtok": "cache_read_video",
    "cache_audio_write_mtok": "cache_write_audio",
    "input_tool_mtok": "input_tool",
    "output_citation_mtok": "citation",
    "input_document_kpages": "pages",
    "input_annotated_document_kpages": "pages_annotated",
    "input_text_messages_kcount": "text_messages",
    "rerank_searches_kcount": "rerank_searches",
    "social_searches_kcount": "social_search",
    "code_executions_kcount": "code_execution",
}
# These are listed without prices: the vendor charges nothing. Zero is then a price. What else is
# listed without prices has none.
_FREE = re.compile(r"moderation|.*:free")
# What the package does in code: Groq bills at least ten seconds of sound.
_AT_LEAST = {
    ("groq", "whisper-large-v3"): {"audio_seconds": 10},
    ("groq", "whisper-large-v3-turbo"): {"audio_seconds": 10},
}
# A thousandth of what prices are quantised to.
_PLACES = 12
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")
_TIERS = {"service_tier", "processing", "speed"}
# What a price depends on beside them.
_CHOICES = {"route", "search_type"}
_CLAUSES = {
    "ClauseEquals": ("equals", "{}"),
    "ClauseStartsWith": ("starts_with", "{}*"),
    "ClauseEndsWith": ("ends_with", "*{}"),
    "ClauseContains": ("contains", "*{}*"),
}
_WITHOUT = re.compile(r"\^\(\?!\.\*((?:[-\w]|\[\w\w\])+)\(\?:\$\|-\)\)")
# Fees that every model of a provider takes, where its entries are of one mind about them.
_COMMON_FEES = ("web_search", "file_search")
# Their tools come with their models wherever those run: Claude on Azure searches by Anthropic.
_TOOLS_COME_WITH = {"anthropic"}
# Azure's names of OpenAI's older models have no dots.
_SPELT = {("azure", "openai"): {"gpt-35-": "gpt-3.5-"}}


def genai_files(source_code: str, source: str, today: str) -> dict[str, PriceFile]:
    """By provider, its file as the text of genai-prices' `data.py` has it; vendors come first."""
    tree = ast.parse(source_code)
    assigned = next((node.value for node in tree.body if isinstance(node, ast.AnnAssign)), None)
    listed = [
        {str(keyword.arg): keyword.value for keyword in item.keywords}
        for item in getattr(assigned, "elts", ())
    ]
    names = [str(ast.literal_eval(fields["id"])) for fields in listed]
    found = {}
    for name, fields in zip(names, listed, strict=True):
        models = [
            _entry(name, _plain(model), source, today) for model in _elements(fields["models"])
        ]
        priced = [model for model in models if model.prices]
        found[name] = PriceFile(
            provider=name,
            pricing_urls=ast.literal_eval(fields["pricing_urls"]),
            resells=_resells(name, fields.get("fallback_model_providers"), names),
            fees=_common_fees(priced, source, today),
            models=priced,
        )
    return dict(sorted(found.items(), key=lambda item: len(item[1].resells) > 0))


def _resells(provider: str, vendors: ast.expr | None, providers: Sequence[str]) -> list[Resold]:
    names = ast.literal_eval(vendors) if vendors else ()
    return [
        Resold(
            vendor=name,
            own_tools=name not in _TOOLS_COME_WITH,
            spelt=_SPELT.get((provider, name), {}),
        )
        for name in names
        if name in providers
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
    if name == "datetime.time":
        return "{:02}:{:02}".format(*(ast.literal_eval(arg) for arg in node.args[:2]))
    if name == "datetime.date":
        return "{:04}-{:02}-{:02}".format(*(ast.literal_eval(arg) for arg in node.args))
    return {"is": name} | {str(keyword.arg): _plain(keyword.value) for keyword in node.keywords}


def _entry(provider: str, model: Mapping[str, Any], source: str, today: str) -> ModelEntry:
    prices = model["prices"]
    if _FREE.fullmatch(model["id"]):
        prices = {"is": "ModelPrice", "input_mtok": "0", "output_mtok": "0"}
    blocks = prices if isinstance(prices, list) else [{"prices": prices}]
    variants = [v for v in model.get("price_variants") or () if len(v["prices"]) > 1]
    try:
        rows = [_row(block, source, today) for block in _with_hours(blocks)]
        rows += [_row(variant, source, today) for variant in sorted(variants, key=_started)]
        return ModelEntry(
            id=model["id"],
            match=sorted(set(_patterns(model["match"]))),
            unless=sorted(set(_exceptions(model["match"]))),
            context_window=model.get("context_window"),
            at_least=_AT_LEAST.get((provider, model["id"]), {}),
            prices=[row for row in rows if row.prices],
        )
    except PriceDataError as error:
        raise PriceDataError(f"{source}: {model['id']}: {error}") from None


def _started(variant: Mapping[str, Any]) -> str:
    return str((variant.get("constraint") or {}).get("start_date", ""))


def _with_hours(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The blocks of a price list, those of some hours within the one they come after."""
    whole: list[dict[str, Any]] = []
    for block in blocks:
        constraint = block.get("constraint") or {}
        if constraint.get("is") == "TimeOfDateConstraint" and whole:
            hours = f"{constraint['start_time']}-{constraint['end_time']}"
            whole[-1]["hours"] = whole[-1].get("hours", {}) | {hours: block["prices"]}
        else:
            whole.append(dict(block))
    return whole


def _row(item: Mapping[str, Any], source: str, today: str) -> PriceRow:
    constraint = item.get("constraint") or {}
    if constraint.get("is", "StartDateConstraint") != "StartDateConstraint":
        raise PriceDataError(f"{constraint['is']} is not a date")
    base, above = _prices(item["prices"])
    hours = {name: _prices(prices) for name, prices in item.get("hours", {}).items()}
    if any(tiers for _, tiers in hours.values()):
        raise PriceDataError("hours with context tiers are not a price we can say")
    return PriceRow(
        since=constraint.get("start_date"),
        service_tier=_tier(item.get("when")),
        prices=base,
        above=above,
        hours={name: flat for name, (flat, _) in hours.items()},
        source=source,
        checked=today,
    )


def _prices(listed: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Prices by unit, and those above a number of input tokens."""
    base: dict[str, str] = {}
    above: dict[str, dict[str, str]] = {}
    for key, price in listed.items():
        if key == "is":
            continue
        if key not in _UNITS:
            raise PriceDataError(f"{key} is not a unit we know")
        unit = _UNITS[key]
        base[unit] = _digits(price["base"] if isinstance(price, dict) else price)
        for tier in price["tiers"] if isinstance(price, dict) else ():
            above.setdefault(str(tier["start"]), {})[unit] = _digits(tier["price"])
    return base, dict(sorted(above.items(), key=lambda pair: int(pair[0])))


def _digits(price: str) -> str:
    """A price without the debris of the float it once was: `0.18000000000000002`."""
    if not _DECIMAL.fullmatch(price):
        raise PriceDataError(f"{price!r} is not a price")
    if len(price.partition(".")[2]) <= _PLACES:
        return price
    return f"{Decimal(price).quantize(Decimal(1).scaleb(-_PLACES)):f}".rstrip("0").rstrip(".")


def _tier(when: Mapping[str, str] | None) -> str:
    """The service tier of a variant; of what is chosen otherwise, `search_type:fast`."""
    if not when:
        return BASE
    key, value = next(iter(when.items()))
    if len(when) == 1 and key in _TIERS:
        return value
    if len(when) == 1 and key in _CHOICES:
        return f"{key}:{value}"
    raise PriceDataError(f"{dict(when)} is not a service tier")


def _patterns(clause: Mapping[str, Any]) -> Iterator[str]:
    """A match clause as patterns of the catalogue: names, `#` digits, `*` ends."""
    kind = clause["is"]
    if kind == "ClauseOr":
        for part in clause["or_"]:
            yield from _patterns(part)
    elif kind == "ClauseAnd":
        rest = [part for part in clause["and_"] if not _WITHOUT.fullmatch(part.get("regex", ""))]
        if len(rest) != 1 or len(clause["and_"]) != 2:
            raise PriceDataError("ClauseAnd is not a clause and one exception")
        yield from _patterns(rest[0])
    elif kind == "ClauseRegex":
        yield from _unroll(clause["regex"])
    elif kind in _CLAUSES:
        field, pattern = _CLAUSES[kind]
        yield pattern.format(clause[field].lower())
    else:
        raise PriceDataError(f"{kind} is not a clause we know")


def _exceptions(clause: Mapping[str, Any]) -> Iterator[str]:
    """What a clause says that a name must not be: `^(?!.*-tts(?:$|-))` is `*-tts`, `*-tts-*`."""
    for part in (*clause.get("or_", ()), *clause.get("and_", ())):
        yield from _exceptions(part)
    if found := _WITHOUT.fullmatch(clause.get("regex", "")):
        word = re.sub(r"\[(\w)\w\]", r"\1", found[1]).lower()
        yield from (f"*{word}", f"*{word}-*")


def _unroll(regex: str) -> Iterator[str]:
    r"""`^claude-opus-5[-@]\d{8}$` names two patterns: `claude-opus-5-########`, and one with @."""
    text = re.sub(r"\\d(\{([0-9])\})?", lambda m: "#" * int(m[2] or 1), regex.lower())
    text = text.removeprefix("^").replace(r"\.", ".").replace(r"\[", "\0").replace(r"\]", "\1")
    text = text[:-1] if text.endswith("$") else text + "*"
    texts = _choices(text)
    if regex[:1] != "^" or re.search(r"[][\\(){}|+?^$]|\*.", "".join(f"{t}\n" for t in texts)):
        raise PriceDataError(f"{regex} is not a pattern we can say without a regular expression")
    yield from (text.replace("\0", "[").replace("\1", "]") for text in texts)


def _choices(text: str) -> list[str]:
    """One text for each way through `[-@]` and `(...)?`."""
    if optional := re.search(r"\(([^()|]+)\)\?", text):
        return [t for part in (optional[1], "") for t in _choices(text.replace(optional[0], part))]
    if choice := re.search(r"\[([-@:.]+)\]", text):
        return [t for part in choice[1] for t in _choices(text.replace(choice[0], part))]
    return [text]
