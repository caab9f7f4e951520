"""The real service in front of a strict recorder, for all tests here."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.smuggling.recorder import KEY, Recorder
from tests.standin.service import Service

STORED = {"OPENAI_API_KEY": KEY.decode(), "ANTHROPIC_API_KEY": KEY.decode()}
PATIENT = {"XPROXY_FAILED_LOGINS_MAX": "0"}
"""Mutations show wrong keys by the thousand."""


@pytest.fixture(scope="session")
async def recorder() -> AsyncIterator[Recorder]:
    """The provider, running for the whole session."""
    async with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Service]:
    """The real service, with the recorder as both providers."""
    data_dir = tmp_path_factory.mktemp("smuggling") / "data"
    with Service(data_dir, recorder.url, **STORED, **PATIENT) as service:
        yield service


@pytest.fixture(scope="session")
def key(service: Service) -> bytes:
    """The key of an application without limits."""
    return service.application_key("smuggling").encode()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What all mutations come from: `XPROXY_SMUGGLING_SEED`, else a new one."""
    text = os.environ.get("XPROXY_SMUGGLING_SEED")
    seed = int(text, 0) if text else random.SystemRandom().getrandbits(32)
    print(f"\n{request.node.name}: XPROXY_SMUGGLING_SEED={seed:#x}")
    return seed
