"""What the first SDKs called things: limits as budgets (0.1.0a1 to a33), and their tags (to a130).

A budget is a limit under other names. Tags of limits became properties: they are kept in one.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Controller, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody

from metering.api.limit_shapes import CreateLimit, LimitObject, UpdateLimit, limit_object
from metering.api.limits import LimitController, changeable, existing, totals_of
from metering.api.server import ApiRequest
from metering.api.text import checked_name, moment
from metering.core.limits import Limit
from metering.directory import limit_topic
from metering.errors import InvalidRequest
from metering.store import limits

TAGS = "system.limit_tags"
"""The property that has a limit's tags, by commas."""
TAGS_MAX = 64


class CreateBudget(msgspec.Struct, kw_only=True):
    """A new budget. Other than a limit it blocks unless it says otherwise."""

    budget_name: str
    max: Decimal
    budget_response_type: str | None = None
    budget_tags: list[str] | None = None
    threshold: Decimal | None = None


class UpdateBudget(msgspec.Struct, kw_only=True):
    """What changes of a budget."""

    budget_name: str | None = None
    max: Decimal | None = None


class Tags(msgspec.Struct, kw_only=True):
    """Names of tags, under either name."""

    limit_tags: list[str] | None = None
    budget_tags: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """The tags, each once."""
        return list(dict.fromkeys((*(self.limit_tags or ()), *(self.budget_tags or ()))))


class Tag(msgspec.Struct, kw_only=True):
    """A tag of a limit."""

    tag_id: int
    tag_name: str
    created_on: datetime


def budget_object(limit: LimitObject) -> dict[str, Any]:
    """A limit as a budget."""
    found = {
        "base_cost_estimate": "max",
        "budget_id": limit.limit_id,
        "budget_name": limit.limit_name,
        "budget_response_type": limit.limit_type,
        "budget_creation_timestamp": limit.limit_creation_timestamp,
        "budget_update_timestamp": limit.limit_update_timestamp,
        "budget_tags": tags_of(limit.properties or {}),
        "currency": "usd",
        "max": limit.max,
        "totals": limit.totals,
    }
    return found if limit.threshold is None else found | {"threshold": limit.threshold}


def tags_of(properties: dict[str, str | None]) -> list[str]:
    """The tags in a limit's properties."""
    return [it for it in (properties.get(TAGS) or "").split(",") if it]


class LegacyBudgetController(Controller):
    """Create, change, reset and delete limits, as budgets."""

    path = "/budgets"
    tags = ("budgets",)

    @post()
    async def create(self, request: ApiRequest, data: JSONBody[CreateBudget]) -> dict[str, Any]:
        """Create a limit that blocks, unless `budget_response_type` is `allow`."""
        asked = CreateLimit(
            limit_name=data.budget_name,
            max=data.max,
            limit_type=data.budget_response_type or "block",
            threshold=data.threshold,
            properties={TAGS: _joined(data.budget_tags)} if data.budget_tags else None,
        )
        made = await LimitController.create.fn(self, request, asked)
        return _answer(request, made.limit, made.message)

    @put("/{limit_id:str}")
    async def update(
        self, request: ApiRequest, limit_id: FromPath[str], data: JSONBody[UpdateBudget]
    ) -> dict[str, Any]:
        """Change `max` or `budget_name`."""
        asked = UpdateLimit(max=data.max, limit_name=data.budget_name)
        changed = await LimitController.update.fn(self, request, limit_id, asked)
        return _answer(request, changed.limit, changed.message)

    @delete("/{limit_id:str}", status_code=200)
    async def delete(self, request: ApiRequest, limit_id: FromPath[str]) -> dict[str, Any]:
        """Delete a limit."""
        done = await LimitController.delete.fn(self, request, limit_id)
        return msgspec.structs.asdict(done)

    @post("/{limit_id:str}/reset", status_code=200)
    async def reset(self, request: ApiRequest, limit_id: FromPath[str]) -> dict[str, Any]:
        """Count from zero; the counters as they were before."""
        done = await LimitController.reset.fn(self, request, limit_id)
        history = done.limit_history
        return {
            "request_id": done.request_id,
            "message": done.message,
            "budget_history": {
                "base_cost_estimate": "max",
                "budget_id": history.limit_id,
                "budget_name": history.limit_name,
                "budget_response_type": history.limit_type,
                "budget_reset_timestamp": history.limit_reset_timestamp,
                "max": history.max,
                "totals": history.totals,
            },
        }


class LimitTagController(Controller):
    """Tags of limits."""

    path = "/limits"
    tags = ("limits",)

    @get("/{limit_id:str}/tags")
    async def read(self, request: ApiRequest, limit_id: FromPath[str]) -> list[Tag]:
        """A limit's tags."""
        return _tags(await existing(request, limit_id))

    @post("/{limit_id:str}/tags")
    async def add(
        self, request: ApiRequest, limit_id: FromPath[str], data: JSONBody[Tags]
    ) -> list[Tag]:
        """Add tags to those there are."""
        limit = await changeable(request, limit_id)
        return await _set(request, limit, [*tags_of(limit.properties), *data.names])

    @put("/{limit_id:str}/tags")
    async def replace(
        self, request: ApiRequest, limit_id: FromPath[str], data: JSONBody[Tags]
    ) -> list[Tag]:
        """Have these tags in place of those there are."""
        return await _set(request, await changeable(request, limit_id), data.names)

    @delete("/{limit_id:str}/tags", status_code=200)
    async def clear(self, request: ApiRequest, limit_id: FromPath[str]) -> list[Tag]:
        """Take all tags away."""
        return await _set(request, await changeable(request, limit_id), [])

    @patch("/{limit_id:str}/tags/remove")
    async def remove(
        self, request: ApiRequest, limit_id: FromPath[str], data: JSONBody[Tags]
    ) -> list[Tag]:
        """Take some tags away."""
        limit = await changeable(request, limit_id)
        left = [it for it in tags_of(limit.properties) if it not in data.names]
        return await _set(request, limit, left)


class BudgetTagController(LimitTagController):
    """The same, of budgets."""

    path = "/budgets"
    tags = ("budgets",)


def _joined(names: list[str]) -> str:
    for name in names:
        if "," in checked_name(name, "limit_tags"):
            raise InvalidRequest(f"limit_tags: {name!r} has a comma", field="limit_tags")
    if len(names) > TAGS_MAX:
        raise InvalidRequest(f"limit_tags has more than {TAGS_MAX} members", field="limit_tags")
    return ",".join(dict.fromkeys(names))


def _tags(limit: Limit) -> list[Tag]:
    created_on = moment(limit.updated_ms)
    names = tags_of(limit.properties)
    return [Tag(tag_id=at, tag_name=it, created_on=created_on) for at, it in enumerate(names, 1)]


async def _set(request: ApiRequest, limit: Limit, names: list[str]) -> list[Tag]:
    services, joined = request.services, _joined(names)
    changed = await limits.set_properties(
        services.store,
        limit.application_id,
        limit.limit_id,
        {TAGS: joined or None},
        services.clock(),
    )
    await services.directory.changed(limit_topic(limit.application_id, limit.limit_id))
    return _tags(changed or limit)


async def as_budget(request: ApiRequest, limit: Limit) -> dict[str, Any]:
    """One limit as an answer, under its present name and its first."""
    [totals] = await totals_of(request, (limit,))
    found = limit_object(limit, totals)
    return _answer(request, found, None) | {"limit": found}


def _answer(request: ApiRequest, limit: LimitObject, message: str | None) -> dict[str, Any]:
    answer = {"request_id": request.request_id, "budget": budget_object(limit)}
    return answer if message is None else answer | {"message": message}
