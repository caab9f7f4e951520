"""Anthropic's models as OpenAI lists them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Model

from metering.translate.anthropic import capabilities
from metering.translate.anthropic.models import models_list

OPUS = {
    "type": "model",
    "id": "claude-opus-4-6",
    "display_name": "Claude Opus 4.6",
    "created_at": "2026-02-04T00:00:00Z",
}
MADE = {"id": "claude-opus-4-6", "object": "model", "created": 1770163200, "owned_by": "anthropic"}


def listed(body: Any) -> Any:
    """What a client gets."""
    made = models_list(json.dumps(body).encode())
    return made and json.loads(made)


def test_a_list_of_models() -> None:
    """With the time each was made, and where the next page begins."""
    page = {"has_more": True, "first_id": "claude-opus-4-6", "last_id": "x"}
    made = listed({"data": [OPUS, {**OPUS, "id": "x", "created_at": "long ago"}], **page})
    assert made == {"object": "list", "data": [MADE, {**MADE, "id": "x", "created": 0}], **page}
    for model in made["data"]:
        Model.model_validate(model, strict=True)


def test_one_model() -> None:
    """By itself."""
    assert listed(OPUS) == MADE


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":[1]}', b'{"data":1}', b"[" * 99_999])
def test_what_is_no_list_cannot_be_read(body: bytes) -> None:
    """Then there is none."""
    assert models_list(body) is None


# name; thinking: budgets, adaptive, turned off how; sampling, forced tools, late system, schemas
CAPABLE: list[tuple[str, bool, bool, str, bool, bool, bool, bool]] = [
    ("claude-2.1",                    False, False, "omit",          True,  True,  False, False),
    ("claude-instant-v1",             False, False, "omit",          True,  True,  False, False),
    ("claude-3-opus-20240229",        False, False, "omit",          True,  True,  False, False),
    ("claude-3-5-sonnet-20240620",    False, False, "omit",          True,  True,  False, False),
    ("claude-3-7-sonnet-latest",      True,  False, "omit",          True,  True,  False, False),
    ("claude-sonnet-4-20250514",      True,  False, "omit",          True,  True,  False, False),
    ("claude-sonnet-4-0",             True,  False, "omit",          True,  True,  False, False),
    ("claude-opus-4-1-20250805",      True,  False, "omit",          True,  True,  False, True),
    ("claude-haiku-4-5-20251001",     True,  False, "omit",          True,  True,  False, True),
    ("anthropic/claude-sonnet-4.5",   True,  False, "omit",          True,  True,  False, True),
    ("anthropic.claude-opus-4-6-v1",  True,  True,  "omit",          True,  True,  False, True),
    ("claude-sonnet-4-6",             True,  True,  "omit",          True,  True,  False, True),
    ("claude-opus-4-7",               False, True,  "omit",          False, True,  False, True),
    ("claude-opus-4-8",               False, True,  "omit",          False, True,  True,  True),
    ("claude-opus-5",                 False, True,  "disabled",      False, True,  True,  True),
    ("claude-sonnet-5",               False, True,  "disabled",      False, True,  False, True),
    ("claude-fable-5",                False, True,  "never",         False, True,  True,  True),
    ("claude-fable-5-2",              False, True,  "never",         False, False, True,  True),
    ("claude-opus-5-5",               False, True,  "never",         False, False, True,  True),
    ("claude-sonnet-5-5",             False, True,  "between_tools", False, False, True,  True),
    ("claude-haiku-5-5",              False, True,  "disabled",      False, True,  True,  True),
    ("claude-mythos-preview",         False, True,  "never",         False, False, True,  True),
    ("claude-haiku-6",                False, True,  "disabled",      False, True,  True,  True),
    ("something-else",                False, True,  "never",         False, False, True,  True),
]  # fmt: skip


@pytest.mark.parametrize("row", CAPABLE, ids=lambda row: row[0])
def test_what_each_model_takes(row: tuple[Any, ...]) -> None:
    """By the version in its name; what is not known is taken for the newest."""
    able = capabilities.of(row[0])
    assert row[1:] == (
        able.budgets,
        able.adaptive,
        able.off,
        able.sampling,
        able.forced_tools,
        able.late_system,
        able.schemas,
    )


@pytest.mark.parametrize(
    ("model", "efforts"),
    [
        ("claude-sonnet-4-5", ()),
        ("claude-opus-4-5", ("low", "medium", "high")),
        ("claude-opus-4-6", ("low", "medium", "high", "max")),
        ("claude-opus-4-7", ("low", "medium", "high", "xhigh", "max")),
    ],
)
def test_the_efforts_of_each_model(model: str, efforts: tuple[str, ...]) -> None:
    """As its API lists them when it is asked for another."""
    assert capabilities.of(model).efforts == efforts
