from __future__ import annotations

import pytest

from pricing import fetch
from tests.pricing.lists import PORTKEY


@pytest.fixture(autouse=True)
def no_third_opinion(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extract without models of ours: the tests that want Portkey's say so."""
    snapshot = tmp_path_factory.mktemp("snapshot") / "portkey.json"
    snapshot.write_text(PORTKEY)
    monkeypatch.setattr(fetch, "SNAPSHOT", snapshot)
