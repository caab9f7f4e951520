"""`/customer`, also called `/end_user`: who a call is made for, as its headers say."""

from litestar import Controller, get, post
from litestar.params import FromQuery, JSONBody

from metering.api.auth import admin_only
from metering.api.litellm import holders
from metering.api.litellm.holder_shapes import (
    AskedHolder,
    BlockedCustomers,
    CustomerView,
    DeletedCustomers,
    NewCustomer,
    SomeUsers,
)
from metering.api.litellm.shapes import ignored, said
from metering.api.server import ApiRequest
from metering.core.terms import Terms
from metering.errors import InvalidRequest
from metering.store import profiles
from metering.store.profiles import Profile

_TERMS = Terms.__struct_fields__


class CustomerController(Controller):
    """Set up, read, change, block and delete customers."""

    path = "/customer"
    tags = ("customers",)
    guards = (admin_only,)

    @post("/new", status_code=200)
    async def new(self, request: ApiRequest, data: JSONBody[NewCustomer]) -> CustomerView:
        """Set a customer up, with a budget of his own or the terms of one that there is."""
        _check_budget(data)
        customer = await holders.create(request, "customer", data.user_id, data, "user_id")
        return await _view(request, customer, await ignored(request))

    @get("/info")
    async def info(self, request: ApiRequest, end_user_id: FromQuery[str]) -> CustomerView:
        """A customer."""
        return await _view(
            request, await holders.get(request, "customer", end_user_id, "end_user_id")
        )

    @post("/update", status_code=200)
    async def update(self, request: ApiRequest, data: JSONBody[NewCustomer]) -> CustomerView:
        """Change a customer: what is not named stays, null takes away; a `budget_id` takes the
        place of a budget of his own, and the other way round."""
        _check_budget(data)
        customer = await holders.get(request, "customer", data.user_id, "user_id")
        asked = said(data, *_TERMS)
        anew = bool(asked.get("budget_id")) or (
            asked.get("max_budget") is not None and customer.terms.budget_id is not None
        )
        customer = await holders.update(request, customer, data, anew=anew)
        return await _view(request, customer, await ignored(request))

    @post("/delete", status_code=200)
    async def delete(self, request: ApiRequest, data: JSONBody[SomeUsers]) -> DeletedCustomers:
        """Delete customers: all of them, or none where one is not there."""
        found = await holders.get_all(request, "customer", data.user_ids, "user_ids")
        await holders.delete(request, found)
        return DeletedCustomers(
            deleted_customers=len(found),
            message=f"Successfully deleted customers with ids: {[it.name for it in found]}",
        )

    @get("/list")
    async def page(self, request: ApiRequest) -> list[CustomerView]:
        """The customers, newest first, at most 1,000."""
        found = await profiles.some(request.services.store, request.user.application_id, "customer")
        shown = await holders.shown(request, found)
        return [_customer(it, its) for it, its in zip(found, shown, strict=True)]

    @post("/block", status_code=200)
    async def block(self, request: ApiRequest, data: JSONBody[SomeUsers]) -> BlockedCustomers:
        """Refuse calls for customers, at once on every worker; who is not known is set up."""
        return await _blocked(request, data.user_ids, blocked=True)

    @post("/unblock", status_code=200)
    async def unblock(self, request: ApiRequest, data: JSONBody[SomeUsers]) -> BlockedCustomers:
        """Let them in again."""
        return await _blocked(request, data.user_ids, blocked=False)


class EndUserController(CustomerController):
    """The same by LiteLLM's other name."""

    path = "/end_user"


def _check_budget(data: NewCustomer) -> None:
    asked = said(data, *_TERMS)
    if asked.get("max_budget") is not None and asked.get("budget_id"):
        raise InvalidRequest(
            "Set either 'max_budget' or 'budget_id', not both.", field="max_budget"
        )


async def _blocked(request: ApiRequest, user_ids: list[str], *, blocked: bool) -> BlockedCustomers:
    store, application_id = request.services.store, request.user.application_id
    body, done = AskedHolder(blocked=blocked), []
    for user_id in dict.fromkeys(user_ids):
        found = await profiles.get(store, application_id, "customer", user_id)
        if found is None and not blocked:
            raise holders.not_found("customer", user_id, "user_ids")
        done.append(
            await holders.create(request, "customer", user_id, body, "user_ids")
            if found is None
            else await holders.update(request, found, body)
        )
    shown = await holders.shown(request, done)
    return BlockedCustomers(
        blocked_users=[_customer(it, its) for it, its in zip(done, shown, strict=True)]
    )


async def _view(
    request: ApiRequest, customer: Profile, names: list[str] | None = None
) -> CustomerView:
    [shown] = await holders.shown(request, [customer])
    return _customer(customer, shown, names)


def _customer(
    customer: Profile, shown: dict[str, object], names: list[str] | None = None
) -> CustomerView:
    return CustomerView(
        user_id=customer.name,
        alias=customer.details.get("alias"),
        xproxy_ignored=names or [],
        **shown,  # type: ignore[arg-type]
    )
