"""One stand-in and one service for all acceptance tests; each test has a tenant of its own.

The whole service runs as anyone would run it, `python -m metering serve` with its embedded stores;
it knows the stand-in as both providers, and has a stored key for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.tenant import PAYI, Tenant, new_tenant
from tests.standin.process import Standin
from tests.standin.service import Service

STORED = {"OPENAI_API_KEY": "sk-stored-openai-7d1f", "ANTHROPIC_API_KEY": "sk-ant-stored-93ab"}
"""The provider keys the service was started with."""
PATIENT = {"XPROXY_FAILED_LOGINS_MAX": "0"}
"""The session's services are shown wrong keys by many tests; `test_logins` has one that is not."""
NO_PROXY_URL = "http://127.0.0.1:9"
"""A web proxy that nobody is: whoever asked it would fail."""
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this directory is an acceptance test."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("acceptance")


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    """The provider stand-in, running for the whole session; `tenant` empties its books."""
    with Standin(tmp_path_factory.mktemp("standin") / "ledger.jsonl") as standin:
        yield standin


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """The real service in front of the stand-in, running for the whole session."""
    data_dir = tmp_path_factory.mktemp("service") / "data"
    with Service(data_dir, standin.url, **STORED, **PATIENT) as service:
        yield service


@pytest.fixture(scope="session")
def open_service(tmp_path_factory: pytest.TempPathFactory, standin: Standin) -> Iterator[Service]:
    """Another one, whose callers may choose private origins; its environment names a web proxy."""
    data_dir = tmp_path_factory.mktemp("open-service") / "data"
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), NO_PROXY_URL)
    with Service(
        data_dir, standin.url, XPROXY_ALLOW_PRIVATE_ORIGINS="on", **STORED, **PATIENT, **proxy
    ) as service:
        yield service


@pytest.fixture
def tenant(service: Service, standin: Standin, route: str) -> Tenant:
    """A fresh application with a key and no limits; the stand-in has empty books and no script."""
    standin.wait_idle()
    standin.reset()
    return new_tenant(service, route=route)


@pytest.fixture
def route() -> str:
    """By which route the tenant's calls come: Pay-i's, unless a test says (`by_each_route`)."""
    return PAYI
