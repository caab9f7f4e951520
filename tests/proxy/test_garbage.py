"""A call leaves nothing for the garbage collector: what it held is free when it ends."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from tests.proxy.rig import STREAM, STREAMED, Rig, answer, completion, streamed

CALLS = 40


@pytest.mark.parametrize("streams", [False, True])
async def test_no_call_ends_in_a_circle(rig: Rig, *, streams: bool) -> None:
    """Our own types are counted; of libraries' only what grows with the calls would be seen."""

    async def call() -> None:
        if streams:
            await rig.post(streamed(*STREAM), STREAMED)
        else:
            await rig.post(answer(completion()))

    for _ in range(3):
        await call()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(CALLS):
            await call()
        gc.collect()
        left = Counter(type(it).__module__ + "." + type(it).__qualname__ for it in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    ours = {name: count for name, count in left.items() if name.startswith("metering.")}
    assert ours == {}, left.most_common(20)
