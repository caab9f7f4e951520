"""What conditions see of a request."""

from __future__ import annotations

import pytest

from metering.core.routing import holds
from metering.providers.request import members
from metering.proxy.journey import PARAM_BYTES_MAX, Params


def test_members_are_what_they_say() -> None:
    """At any depth."""
    params = Params(members(b'{"model":"gpt-4o","metadata":{"plan":"paid"},"n":2}'))
    assert holds({"params.metadata.plan": "paid", "params.n": {"$gt": 1}}, {"params": params})
    assert dict(params) == {"model": "gpt-4o", "metadata": {"plan": "paid"}, "n": 2}
    assert len(params) == 3


@pytest.mark.parametrize(
    "value", [b"[" + b"[]," * PARAM_BYTES_MAX + b"[]]", b"1e999", b"[" * 900 + b"]" * 900]
)
def test_what_nobody_compares_is_not_there(value: bytes) -> None:
    """What would fill memory, or no parser takes, spoils nothing else."""
    params = Params(members(b'{"model":"gpt-4o","x":' + value + b"}"))
    assert holds({"params.model": "gpt-4o", "params.y": {"$eq": None}}, {"params": params})
    assert not holds({"params.x": {"$gt": 0}}, {"params": params})
