"""Fixtures: import `standin` and `standin_process` into a `conftest.py` to have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.standin.process import Standin


@pytest.fixture(scope="session")
def standin_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    """One stand-in for the whole session."""
    with Standin(tmp_path_factory.mktemp("standin") / "ledger.jsonl") as process:
        yield process


@pytest.fixture
def standin(standin_process: Standin) -> Standin:
    """The session's stand-in, with empty books and no script."""
    standin_process.reset()
    return standin_process
