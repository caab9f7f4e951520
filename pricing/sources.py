"""What the price lists say together: a provider's file as its sources have it today.

genai-prices leads. LiteLLM's list and then Portkey's add what it lacks, where they agree with it on
the rest, and a few fees come from the vendors' pages. A row says which of them it is from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from pricing.book import PriceBook, midnight_ms
from pricing.catalogue import BASE, ModelEntry, PriceFile, PriceRow, ScopeRow
from pricing.comparison import Comparison
from pricing.gaps import with_gaps_filled, with_tiers, with_whole_tiers
from pricing.listed import Listed
from pricing.names import place_of

# Models LiteLLM knows and genai-prices does not are taken if they are called by endpoints we know.
_MODES = {
    "audio_speech",
    "audio_transcription",
    "chat",
    "completion",
    "embedding",
    "image_edit",
    "image_generation",
    "moderation",
    "ocr",
    "realtime",
    "rerank",
    "responses",
    "video_generation",
}
_FEES_LISTED = {"web_search", "maps_search"}
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
# Where LiteLLM's bound is lower than what the vendor lets a model write, or missing. Looked up on
# 2026-11-28 in copies of the vendors' pages: of Claude, o1 and GPT-4 the pages say it (Sonnet 3.7:
# with the header of 128k); of GPT-3.5 and the base models, whose pages give no bound of the output
# alone, it is the window. No page was found of gpt-4.5-preview, which is gone; what is fine-tuned
# is as its base, codex-mini as on Azure.
_OUTPUT_BOUNDS = {
    "babbage-002": 16_384,
    "ft:babbage-002": 16_384,
    "ft:davinci-002": 16_384,
    "gpt-3.5-turbo-16k": 16_385,
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
    file: PriceFile, listed: Sequence[Listed], vendors: Sequence[PriceFile], *, today: str
) -> PriceFile:
    """A provider's file as the sources say today: genai-prices', and what the lists add.

    `vendors` are the files of those whose models it resells; `listed` are all lines of all lists,
    the better list first.
    """
    of_provider = [item for item in listed if item.provider == file.provider]
    plain = [item for item in of_provider if not item.zone]
    at_ms = midnight_ms(today)
    before = Comparison(file, vendors, listed, at_ms)
    bare = Comparison(msgspec.structs.replace(file, models=[]), vendors, listed, at_ms)
    news = {item.name for item in plain if before.is_new(item)}
    models = [_named(entry, news) for entry in file.models if not bare.is_copy(entry)]
    news -= {entry.id for entry in models}
    models += _added([item for item in plain if item.name in news], file.provider, today)
    after = Comparison(msgspec.structs.replace(file, models=models), vendors, listed, at_ms)
    zones = {
        after.entry_of(item.name): after.zones(of_provider, item.name)
        for item in of_provider
        if item.zone
    }
    usual = _commonest(zones.values()) if file.provider == "azure" else {}
    unusual = after.scopes_of_resold(plain)
    unusual |= {name: scopes for name, scopes in zones.items() if scopes not in ({}, usual)}
    names = _by_model(msgspec.structs.replace(file, resells=[], models=models), plain)
    models = [_completed(entry, names.get(entry.id, []), today) for entry in models]
    source = listed[0].source if listed else ""
    return msgspec.structs.replace(
        file,
        fees=_with_fees(file, after.common_fees(plain), plain, source, today),
        scopes=[
            *_scope_rows(usual, source, today),
            *_scope_rows(*_SCOPES.get(file.provider, ({}, "")), today),
        ],
        models=_with_scopes(models, unusual, source, today),
    )


def _named(entry: ModelEntry, names: AbstractSet[str]) -> ModelEntry:
    """The entry with its own id among its names, where a list has that and no entry has it yet."""
    if entry.id not in names:
        return entry
    return msgspec.structs.replace(entry, match=sorted({*entry.match, entry.id}))


def _added(news: Iterable[Listed], provider: str, today: str) -> list[ModelEntry]:
    """Entries of what only the lists have; the better one's where both do.

    A model that costs the same wherever it answers has one entry, for all places.
    """
    found: dict[str, ModelEntry] = {}
    for item in news:
        entry = own_entry(item, today)
        if entry is not None:
            found.setdefault(entry.id, entry)
    for name, entry in list(found.items()):
        anywhere = name.removeprefix(f"{place_of(provider, name)}.")
        if anywhere != name and anywhere in found and found[anywhere].prices == entry.prices:
            del found[name]
    return list(found.values())


def _completed(entry: ModelEntry, listed: Sequence[Listed], today: str) -> ModelEntry:
    filled = with_gaps_filled(entry, listed, today)
    tiered = with_whole_tiers(with_tiers(filled, listed, today), today)
    return with_bounds(tiered, listed, today)


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
    file: PriceFile, searches: Mapping[str, str], listed: Iterable[Listed], source: str, today: str
) -> list[PriceRow]:
    """The row of a provider's fees, from all that states one."""
    parts = [(row.prices, row.source) for row in file.fees]
    stated = [(searches, source), *([_FEES[file.provider]] if file.provider in _FEES else ())]
    stated += [(item.base, item.source) for item in listed if item.mode == "guardrail"]
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


def own_entry(listed: Listed, today: str) -> ModelEntry | None:
    """An entry of a model's prices as only a list has them; None of what no endpoint calls."""
    if listed.mode not in _MODES or not listed.is_priced:
        return None
    if not listed.base.keys() - _FEES_LISTED:
        return None
    rows = [
        PriceRow(
            since=None,
            service_tier=tier,
            prices=listed.prices[tier, ""],
            above=listed.above(tier),
            source=listed.source,
            checked=today,
        )
        for tier in (BASE, *listed.tiers)
    ]
    names = [listed.name, listed.name + ":*"] if listed.name.startswith("ft:") else [listed.name]
    return ModelEntry(id=listed.name, match=names, prices=rows)


def with_bounds(entry: ModelEntry, listed: Sequence[Listed], today: str) -> ModelEntry:
    """The entry with the token bounds and scope multipliers that are listed for its names."""
    outputs = [item.max_output_tokens for item in listed if item.max_output_tokens]
    windows = [item.context_window for item in listed if item.context_window]
    scopes = {scope: ratio for item in listed for scope, ratio in item.scopes.items()}
    bounds = [*outputs, _OUTPUT_BOUNDS.get(entry.id, 0)]
    return msgspec.structs.replace(
        entry,
        max_output_tokens=max(bounds) or None,
        context_window=entry.context_window or max(windows, default=None),
        scopes=[*entry.scopes, *_scope_rows(scopes, listed[0].source if listed else "", today)],
    )
