"""What is remembered of headers, and what is not: memory is bounded, whatever callers say."""

from __future__ import annotations

import json

from metering.providers import DIALECTS
from metering.proxy.said import PROVIDERS_REMEMBERED_MAX, TARGETS_REMEMBERED_MAX, Reader, Said
from metering.surfaces import UNIFIED

PORTKEY = UNIFIED[2]


def said(reader: Reader, targets: int = 1) -> Said:
    """What headers say that have a config of so many targets."""
    config = {"strategy": {"mode": "fallback"}, "targets": [{}] * targets}
    return reader.read([(b"x-portkey-config", json.dumps(config).encode())])


def test_short_plans_are_remembered() -> None:
    """Long ones are read anew: a head of a few bytes can have many targets."""
    reader = Reader(PORTKEY, lambda _: False, None)
    for targets, kept in ((TARGETS_REMEMBERED_MAX, True), (TARGETS_REMEMBERED_MAX + 1, False)):
        assert said(reader, targets) is said(reader, targets)
        plan = said(reader, targets).plan()
        assert len(plan.targets) == targets
        assert (said(reader, targets).plan() is plan) is kept


def test_headers_for_few_providers_are_remembered() -> None:
    """Any of two dozen may be called with the same ones."""
    it = said(Reader(PORTKEY, lambda _: False, None))
    first, *others = list(DIALECTS.values())[: PROVIDERS_REMEMBERED_MAX + 1]
    passed = it.passed(first, None)
    for other in others[:-1]:
        it.passed(other, None)
    assert it.passed(first, None) is passed
    it.passed(others[-1], None)
    again = it.passed(first, None)
    assert again == passed
    assert again is not passed
