"""Stand-ins for the price lists and the places they are had from, and a run over them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from pricing import update
from pricing.fetch import SOURCES, Download, Get, Unreachable

DAY_1, DAY_2 = (datetime(2026, 11, day, tzinfo=UTC) for day in (20, 21))

MODEL = """ModelInfo(id='{id}', match=ClauseOr(or_=[ClauseEquals(equals='{id}'),
ClauseStartsWith(starts_with='{id}-x'), ClauseContains(contains='+{id}+'),
ClauseRegex(regex='^{id}[-@]\\\\d{{4}}$')]), context_window=100, prices={prices},
price_variants={variants})"""
FLAT = "ModelPrice(input_mtok=Decimal('{0}'), output_mtok=Decimal('10'))"
TIERED = (
    "ModelPrice(input_mtok=TieredPrices(base=Decimal('2'), "
    "tiers=[Tier(start=200, price=Decimal('4'))]), output_mtok=Decimal('9'))"
)


def genai(openai: str, anthropic: str = "", azure: str = "") -> str:
    """The text of genai-prices' data module with these models; Azure sells the others' too."""
    models = {
        "openai": openai, "anthropic": anthropic, "azure": azure,
        "google": model("x", FLAT.format(7)),
    }  # fmt: skip
    falls_back = {"azure": "fallback_model_providers=['openai', 'anthropic', 'meta'], "}
    listed = ", ".join(
        f"Provider(id='{name}', pricing_urls=['https://{name}.example'], "
        f"{falls_back.get(name, '')}models=[{text}])"
        for name, text in models.items()
    )
    return f"import datetime\nproviders: list[Provider] = [{listed}]\n"


def model(name: str = "m", prices: str = FLAT.format(2), variants: str = "None") -> str:
    """The text of a model, with every kind of match rule."""
    return MODEL.format(id=name, prices=prices, variants=variants)


PORTKEY = """{"groq": {"default": {}, "elsewhere": {"pricing_config": {"pay_as_you_go": {
"request_token": {"price": 0.0001}}}}}}"""
LITELLM: dict[str, dict[str, Any]] = {
    "sample_spec": {"mode": "one of"},
    "m": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 2e-06,
        "output_cost_per_token": 1.1e-05,
        "input_cost_per_token_above_200k_tokens": 5.0000000000000004e-06,
        "output_cost_per_token_batches": 5e-06,
        "cache_read_input_token_cost": None,
        "max_input_tokens": 300,
        "max_output_tokens": 64,
        "regional_processing_uplift_multiplier_eu": 1.1,
    },
    "m-xl": {"litellm_provider": "openai", "mode": "chat", "max_output_tokens": 128,
             "input_cost_per_audio_token": 4e-05},
    "m-xs": {"litellm_provider": "openai", "mode": "chat", "max_output_tokens": "a lot",
             "search_context_cost_per_query": {"search_context_size_low": 0.01}},
    "ft:m": {
        "litellm_provider": "text-completion-openai",
        "mode": "completion",
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 6e-06,
        "input_cost_per_token_above_200k_tokens": 4e-06,
        "input_cost_per_token_batches": 1.5e-06,
        "provider_specific_entry": {"us": 1.1, "fast": 2},
    },
    "sora": {"litellm_provider": "openai", "mode": "video_generation"},
    "low/image": {"litellm_provider": "openai", "mode": "image_generation"},
    "gemini/gemini": {"litellm_provider": "gemini", "mode": "chat"},
}  # fmt: skip


def row(
    vendor: str, mode: str, tokens: tuple[float, float] | None = None, **more: Any
) -> dict[str, Any]:
    """A row of LiteLLM's list; tokens in and out cost so many USD a million."""
    fields = zip(("input_cost_per_token", "output_cost_per_token"), tokens or (), strict=False)
    return {
        "litellm_provider": vendor,
        "mode": mode,
        **{field: price / 1e6 for field, price in fields},
        **more,
    }


def image(vendor: str, price_per_pixel: float) -> dict[str, Any]:
    """A row of an image of a size, which is in the name."""
    return row(vendor, "image_generation", input_cost_per_pixel=price_per_pixel)


def wheels(code: str, prices: dict[str, Any]) -> Download:
    """A stand-in for the package index: wheels with this content."""

    def download(directory: Path, packages: Iterable[str]) -> None:
        assert list(packages) == ["genai-prices", "litellm"]
        for source, version, content in zip(
            SOURCES, ("9.9", "8.8"), (code, json.dumps(prices)), strict=True
        ):
            name = f"{source.package}-{version}-py3-none-any.whl"
            with ZipFile(directory / name, "w") as wheel:
                wheel.writestr(source.member, content)

    return download


def nowhere(url: str) -> bytes:
    """A stand-in for a machine without the lists' sites."""
    raise Unreachable(url)


def run(
    data: Path,
    code: str,
    *arguments: str,
    now: datetime = DAY_1,
    prices: dict[str, Any] = LITELLM,
    get: Get = nowhere,
) -> int:
    """Run the command over stand-in sources."""
    accepted = ["--accept", "litellm", "--accept", "genai-prices"]
    return update.main(
        [*arguments, *accepted], data=data, get=get, download=wheels(code, prices), now=now
    )


def entries(data: Path, provider: str = "openai") -> dict[str, Any]:
    """The entries of a provider's file by id."""
    return {e["id"]: e for e in json.loads((data / f"{provider}.json").read_bytes())["models"]}


def rows(data: Path, name: str = "m") -> list[tuple[str | None, str, str]]:
    """(from, tier, input price) of each row of an entry, in file order."""
    return [
        (row["from"], row.get("service_tier", "default"), row["prices"].get("input", "-"))
        for row in entries(data)[name]["prices"]
    ]
