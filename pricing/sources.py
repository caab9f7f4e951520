"""What the price lists say together: a provider's file as its sources have it today.

genai-prices leads. LiteLLM's list adds what it lacks, and a few fees come from the vendors' pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pricing.book import PriceBook, midnight_ms
from pricing.catalogue import BASE, ModelEntry, PriceFile, PriceRow, ScopeRow
from pricing.comparison import Comparison
from pricing.litellm import Listed

# Models LiteLLM knows and genai-prices does not are taken if they are called by endpoints we know.
_MODES = {
    "audio_speech",
    "audio_transcription",
    "chat",
    "completion",
    "embedding",
    "image_edit",
    "image_generation",
    "responses",
}
_FEES_LISTED = {"web_search"}
# Where genai-prices has no price for these at all, LiteLLM's is taken and the row says so: audio at
# the text rate would be a sixteenth of the bill.
_GAPS = ("cache_read", "input_audio", "output_audio", "web_search")
# What no package lists. OpenAI's containers are billed by the minute since 2026-06-02, of which at
# least five; an answer does not say how many, so a session counts as the 20 minutes that are its
# list price. Azure's meter of global deployments has the same price.
_FEES = {
    "openai": (
        {
            "container_1g": "0.03",
            "container_4g": "0.12",
            "container_16g": "0.48",
            "container_64g": "1.92",
        },
        "https://developers.openai.com/api/docs/pricing",
    )
}
# Regional deployments have a meter per region: a tenth above global in most, up to a third in some.
_SCOPES = {"azure": ({"region": "1.1"}, "https://prices.azure.com/api/retail/prices")}
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


def combine(
    file: PriceFile,
    listed: Sequence[Listed],
    vendors: Sequence[PriceFile],
    *,
    source: str,
    today: str,
) -> PriceFile:
    """A provider's file as the sources say today: genai-prices', and what LiteLLM's list adds.

    `vendors` are the files of those whose models it resells; `source` names LiteLLM's list and its
    version.
    """
    of_provider = [item for item in listed if item.provider == file.provider]
    plain = [item for item in of_provider if not item.zone]
    at_ms = midnight_ms(today)
    before = Comparison(file, vendors, listed, at_ms)
    bare = Comparison(msgspec.structs.replace(file, models=[]), vendors, listed, at_ms)
    added = [own_entry(item, source, today) for item in plain if before.is_new(item)]
    models = [entry for entry in file.models if not bare.is_copy(entry)]
    models += [entry for entry in added if entry is not None]
    after = Comparison(msgspec.structs.replace(file, models=models), vendors, listed, at_ms)
    zones = {item.name: after.zones(of_provider, item.name) for item in of_provider if item.zone}
    usual = _commonest(zones.values())
    unusual = {name: scopes for name, scopes in zones.items() if scopes not in ({}, usual)}
    names = _by_model(msgspec.structs.replace(file, resells=[], models=models), plain)
    models = [
        with_bounds(with_gaps_filled(entry, also, source), also, source, today)
        for entry in models
        for also in [names.get(entry.id, [])]
    ]
    return msgspec.structs.replace(
        file,
        fees=_with_fees(file, after.common_fees(plain), source, today),
        scopes=[
            *_scope_rows(usual, source, today),
            *_scope_rows(*_SCOPES.get(file.provider, ({}, "")), today),
        ],
        models=_with_scopes(models, unusual, source, today),
    )


def _with_scopes(
    models: Iterable[ModelEntry],
    unusual: Mapping[str, Mapping[str, str]],
    source: str,
    today: str,
) -> list[ModelEntry]:
    """The entries by id, with scopes of their own; what is sold at list price has nothing else."""
    found = {entry.id: entry for entry in models}
    for name, scopes in unusual.items():
        entry = found.get(name) or ModelEntry(id=name, match=[name], prices=[])
        rows = [*entry.scopes, *_scope_rows(scopes, source, today)]
        found[name] = msgspec.structs.replace(entry, scopes=rows)
    return sorted(found.values(), key=lambda entry: entry.id)


def _commonest(scopes: Iterable[dict[str, str]]) -> dict[str, str]:
    counted = Counter(tuple(found.items()) for found in scopes if found)
    return dict(counted.most_common(1)[0][0]) if counted else {}


def _by_model(file: PriceFile, listed: Iterable[Listed]) -> dict[str, list[Listed]]:
    book = PriceBook([file], "")
    names: dict[str, list[Listed]] = {}
    for item in listed:
        if rates := book.find(file.provider, item.name, 0):
            names.setdefault(rates.model, []).append(item)
    return names


def _with_fees(
    file: PriceFile, listed: Mapping[str, str], source: str, today: str
) -> list[PriceRow]:
    """The row of a provider's fees, from all that states one."""
    parts = [(row.prices, row.source) for row in file.fees]
    stated = [(listed, source), *([_FEES[file.provider]] if file.provider in _FEES else ())]
    parts += [(fees, f"{', '.join(fees)} from {where}") for fees, where in stated if fees]
    row = PriceRow(
        since=None,
        prices={unit: price for fees, _ in parts for unit, price in fees.items()},
        source="; ".join(where for _, where in parts),
        checked=today,
    )
    return [row] if parts else []


def _scope_rows(scopes: Mapping[str, str], source: str, today: str) -> list[ScopeRow]:
    return [
        ScopeRow(since=None, scope=scope, multiplier=ratio, source=source, checked=today)
        for scope, ratio in sorted(scopes.items())
    ]


def own_entry(listed: Listed, source: str, today: str) -> ModelEntry | None:
    """An entry of a model's prices as only LiteLLM has them; None of what no endpoint calls."""
    if listed.mode not in _MODES or not listed.prices.get((BASE, ""), {}).keys() - _FEES_LISTED:
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
        scopes=[*entry.scopes, *_scope_rows(scopes, source, today)],
    )
