"""Lists of models: which ones are in them."""

from __future__ import annotations

import pytest

from metering.core.models import allows

ROWS = [
    (["gpt-4o"], "gpt-4o", True),
    (["gpt-4o"], "gpt-4o-mini", False),
    (["openai/gpt-4o"], "gpt-4o", True),
    (["anthropic/gpt-4o"], "gpt-4o", False),
    (["openai/*"], "gpt-4o", True),
    (["anthropic/*"], "gpt-4o", False),
    (["gpt-*"], "gpt-4o", True),
    (["gpt-*-mini", "o3"], "gpt-4o", False),
    (["gpt-*-mini", "o3"], "o3", True),
    (["*"], "anything", True),
    (["all-proxy-models"], "anything", True),
    (["all-team-models"], "anything", True),
    (["no-default-models"], "gpt-4o", False),
    (["gpt.4o*"], "gpt-4o", False),
    (["ft:gpt-4o*"], "ft:gpt-4o:acme:1", True),
    (["gpt-4o"], "", False),
    ([], "gpt-4o", False),
]


@pytest.mark.parametrize(("models", "model", "expected"), ROWS)
def test_a_model_is_in_a_list(models: list[str], model: str, expected: bool) -> None:  # noqa: FBT001
    """By its name, with its provider's, or by a pattern; nothing else is."""
    assert allows(models, "openai", model) is expected
