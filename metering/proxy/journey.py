"""The attempts of one call, in the order that its plan has them.

A call whose path says where it goes has one. Each attempt is planned anew: it may go to another
provider, in another form, within other limits; and has a hold and a row of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from metering.core.routing import DRAW_MAX, Course, Step
from metering.errors import CallerFault, InvalidRequest
from metering.meter import Meter
from metering.providers import request as reading
from metering.proxy.call import Call
from metering.proxy.ceiling import bounded
from metering.proxy.plan import FIRST, Attempt, Planner
from metering.proxy.request import Request

ATTEMPTS_MAX = 9
"""So many attempts a call has at most, whatever its plan allows, with those that cannot be made."""
PAUSE_S_MAX = 16
PAUSES_S_MAX = 60
"""How long it waits before a target is tried again, and in all."""
PARAM_BYTES_MAX = 64 * 1024
"""Larger members of a request are none that conditions compare."""

_decode = msgspec.json.Decoder().decode


class Params(Mapping[str, Any]):
    """The members of a request, each decoded when it is first asked for: a request may be large."""

    def __init__(self, members: Mapping[str, Raw]) -> None:
        self._members = members
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._decoded:
            self._decoded[name] = _small(bytes(self._members[name]))
        return self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


class Journey:
    """One call's way through its plan."""

    def __init__(
        self, request: Request, planner: Planner, meter: Meter, random: Callable[[int], bytes]
    ) -> None:
        self._request = request
        self._planner = planner
        self._meter = meter
        self._random = random
        self._course: Course | None = None
        self._number = 0
        self._paused_s = 0

    async def first(self) -> Call:
        """The call's first attempt; raises CallerFault if no target can be tried."""
        request = self._request
        if request.provider:
            return await self._planned(FIRST)
        plan = request.said.plan()
        facts: dict[str, Any] = {}
        if plan.conditional:
            facts = await _facts(request)
        self._course = Course(
            plan, lambda: int.from_bytes(self._random(4), "big") % DRAW_MAX, facts
        )
        return await self._next(self._course.first())

    async def after(self, status: int, retry_after: bytes = b"") -> Call | None:
        """The next attempt, after the last one ended with a status; None: there is none. A target
        that is tried again is given a moment."""
        step = None if self._course is None else self._course.after(status)
        if step is None or self._number >= ATTEMPTS_MAX:
            return None
        if step.retries:
            pause_s = _pause_s(step, retry_after)
            self._paused_s += pause_s
            if self._paused_s > PAUSES_S_MAX:
                return None
            await asyncio.sleep(pause_s)
        return await self._next(step)

    @property
    def exhausted(self) -> bool:
        """Whether a target was tried as often as it may be."""
        return self._course is not None and self._course.exhausted

    async def _next(self, step: Step) -> Call:
        """The call for a step, or for the next one whose call can be made."""
        while True:
            self._number += 1
            try:
                return await self._planned(Attempt(self._number, step.target, step.retries))
            except CallerFault as fault:
                after = self._course.after(fault.status, again=False) if self._course else None
                if after is None or self._number >= ATTEMPTS_MAX:
                    raise
                step = after

    async def _planned(self, attempt: Attempt) -> Call:
        return await bounded(await self._planner.plan(self._request, attempt), self._meter)


def _small(raw: bytes) -> Any:
    """What a member is; None for what nobody compares."""
    try:
        return _decode(raw) if len(raw) <= PARAM_BYTES_MAX else None
    except (ValueError, RecursionError):
        return None


def _pause_s(step: Step, retry_after: bytes) -> int:
    """How long to wait: 1, 2, 4, 8, 16 s, or what the provider says, if that counts."""
    if step.target.retry.use_retry_after and retry_after.isdigit() and len(retry_after) < 4:
        return int(retry_after)
    return min(PAUSE_S_MAX, 1 << (step.retries - 1))


async def _facts(request: Request) -> dict[str, Any]:
    """What conditions ask about."""
    try:
        params = Params(reading.members(await request.body()))
    except InvalidRequest:  # it is refused where it is read
        params = Params({})
    metadata = {**request.annotations.properties, "_user": request.annotations.user_id}
    return {"params": params, "metadata": metadata, "url": {"pathname": request.path}}
