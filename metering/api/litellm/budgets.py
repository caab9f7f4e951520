"""`/budget`: terms by a name, which keys, teams, users and customers take by `budget_id`. Each of
them has the whole of it for himself; who changes it changes it for all."""

from litestar import Controller, get, post
from litestar.params import JSONBody
from msgspec import UNSET

from metering.api.auth import admin_only
from metering.api.litellm import holders
from metering.api.litellm.holder_shapes import (
    AskedHolder,
    BudgetView,
    NewBudget,
    OneBudget,
    SomeBudgets,
    budget_view,
)
from metering.api.litellm.shapes import AskedTerms, ignored
from metering.api.server import ApiRequest
from metering.errors import InvalidRequest
from metering.store import profiles


class SharedBudgetController(Controller):
    """Make, read, change and delete budgets."""

    path = "/budget"
    tags = ("shared budgets",)
    guards = (admin_only,)

    @post("/new", status_code=200)
    async def new(self, request: ApiRequest, data: JSONBody[NewBudget]) -> BudgetView:
        """Make a budget."""
        made = await holders.create(request, "budget", data.budget_id, _terms(data), "budget_id")
        return budget_view(made, await ignored(request))

    @post("/info", status_code=200)
    async def info(self, request: ApiRequest, data: JSONBody[SomeBudgets]) -> list[BudgetView]:
        """Those that are there of some budgets."""
        if not data.budgets:
            raise InvalidRequest("Specify list of budget id's to query.", field="budgets")
        found = await profiles.get_many(
            request.services.store, request.user.application_id, "budget", data.budgets
        )
        return [budget_view(it) for it in found]

    @post("/update", status_code=200)
    async def update(self, request: ApiRequest, data: JSONBody[NewBudget]) -> BudgetView:
        """Change a budget, for all who have it."""
        if data.budget_id is None:
            raise InvalidRequest("budget_id is required", field="budget_id")
        budget = await holders.get(request, "budget", data.budget_id, "budget_id")
        changed = await holders.update(request, budget, _terms(data))
        return budget_view(changed, await ignored(request))

    @post("/delete", status_code=200)
    async def delete(self, request: ApiRequest, data: JSONBody[OneBudget]) -> BudgetView:
        """Delete a budget that nobody has: who had it could spend without end."""
        budget = await holders.get(request, "budget", data.id, "id")
        if used := await holders.used(request, data.id):
            raise InvalidRequest(
                f"budget {data.id!r} is that of {used} keys, teams, users or customers: give them "
                "another first",
                field="id",
            )
        await holders.delete(request, [budget])
        return budget_view(budget)

    @get("/list")
    async def page(self, request: ApiRequest) -> list[BudgetView]:
        """The budgets, newest first, at most 1,000."""
        found = await profiles.some(request.services.store, request.user.application_id, "budget")
        return [budget_view(it) for it in found]


def _terms(data: NewBudget) -> AskedHolder:
    """What a body says of a budget beside its id."""
    asked = {name: getattr(data, name) for name in AskedTerms.__struct_fields__}
    return AskedHolder(**(asked | {"budget_id": UNSET}))
