"""Chaos: processes are killed and paused under load. Every run says its seed, and takes one."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Literal

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this directory is a chaos test."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("chaos")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What everything random in a test comes from: `XPROXY_CHAOS_SEED`, else a new one."""
    text = os.environ.get("XPROXY_CHAOS_SEED")
    seed = int(text, 0) if text else random.SystemRandom().getrandbits(32)
    print(f"\n{request.node.name}: XPROXY_CHAOS_SEED={seed:#x}")
    return seed


@pytest.fixture(scope="session")
def full(size: Literal["ci", "full", "soak"]) -> bool:
    """Whether to run at the size that is promised, instead of one that fits CI."""
    return size != "ci" or bool(os.environ.get("XPROXY_CHAOS_FULL"))
