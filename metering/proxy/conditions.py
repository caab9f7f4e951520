"""At which price, and within which limits, a call is admitted."""

from __future__ import annotations

from collections.abc import Callable

from metering.core.annotations import Annotations
from metering.core.limits import Limit
from metering.directory import Caller, Directory, Held
from metering.errors import InvalidRequest, NotAllowed
from metering.meter import Meter, Priced, price_of
from metering.providers import provider_of
from metering.providers.base import NOTHING, Ask, Dialect, Endpoint
from metering.proxy.aims import Aim
from metering.proxy.permitted import check_not_blocked
from metering.proxy.request import Request
from metering.settings import Settings

HELD_AT_ONCE = 8
"""So many calls that set no cap are to fit under a hard cap together."""
OUTPUT_MIN = 256
"""The least that such a call is given, in tokens: if that does not fit either, it is refused."""


class Conditions:
    """Finds what holds for the calls of one worker."""

    def __init__(self, settings: Settings, directory: Directory, meter: Meter) -> None:
        self._settings = settings
        self._directory = directory
        self._meter = meter

    async def holding(self, caller: Caller, annotations: Annotations) -> tuple[Held, ...]:
        """Whom the call is for, if it is held to anything because of him."""
        holding = await self._directory.holding(
            caller, user_id=annotations.user_id, customer=annotations.account_name
        )
        check_not_blocked(holding)
        return holding

    async def limits(
        self,
        caller: Caller,
        annotations: Annotations,
        endpoint: Endpoint,
        credential: str | None,
    ) -> tuple[Limit, ...]:
        """The limits that apply: named, or attached to whom the call is for, or to the slug of the
        credential that serves it. Free calls have none."""
        if endpoint.kind == "free":
            return ()
        attached = await self._directory.attached(
            caller,
            user_id=annotations.user_id,
            customer=annotations.account_name,
            credential=credential,
        )
        named = dict.fromkeys((*annotations.limit_ids, *attached))
        if not named:
            return ()
        found = await self._directory.limits(caller.application_id, named)
        known = tuple([it for it in found if it is not None])
        if len(known) < len(found):
            missing = [limit_id for limit_id, it in zip(named, found, strict=True) if it is None]
            raise _no_such_limits(missing, set(missing) <= set(annotations.limit_ids))
        return known

    async def most_output(
        self,
        request: Request,
        aim: Aim,
        annotations: Annotations,
        *,
        credential: str | None,
        spent: Callable[[Limit], int | None],
    ) -> int | None:
        """How many tokens the answer to a call has at most that sets no cap itself: as many as the
        model writes, but under hard caps no more than a share of what is left, for a call holds
        all that it may come to. None: that is not known."""
        caller = request.caller
        model = caller.aliases.get(aim.model, aim.model) if caller.aliases else aim.model
        rates = self._meter.prices.book.find(aim.dialect.name, model, request.now_ms)
        if rates is None or not rates.max_output_tokens:
            return None
        most = rates.max_output_tokens
        for limit in await self.limits(caller, annotations, aim.endpoint, credential):
            if limit.mode == "hard" and limit.unit in ("usd", "tokens"):
                share = (limit.max - (spent(limit) or 0)) // HELD_AT_ONCE
                if limit.unit == "usd":
                    share = share * 1_000 // max(1, rates.ceiling(0, 1_000))
                most = min(most, max(OUTPUT_MIN, share))
        return most

    def price(
        self,
        dialect: Dialect,
        ask: Ask,
        annotations: Annotations,
        limits: tuple[Limit, ...],
        *,
        caller: Caller,
        credential: str | None,
        now_ms: int,
    ) -> Priced:
        """The price at admission; a model without one is refused where a limit depends on it."""
        if ask is NOTHING:
            return Priced(dialect.name, "", None)
        category = annotations.price_as_category
        provider = provider_of(category, dialect.name)
        model = annotations.price_as_resource or ask.model
        priced = price_of(
            self._meter.prices,
            caller.application_id,
            provider,
            model,
            now_ms,
            category=category,
            credential=credential,
            limits=limits,
            estimate=self._settings.unpriced == "estimate",
        )
        rates = priced.rates
        if rates is None and category and self._is_callers_own(caller, category, model, now_ms):
            raise _not_the_callers_price(category, model)
        if rates is not None and (rates.by_tokens or rates.prices_any(ask.counted)):
            return priced
        binding = any(limit.binding for limit in limits)
        policy = self._settings.unpriced
        if policy == "refuse" or (policy == "default" and binding):
            where = "xProxy-PriceAs-Resource" if annotations.price_as_resource else "model"
            raise NotAllowed(
                f"no price is known for {where} {model!r} of {provider}, and a limit that blocks "
                "depends on it: use a model that is priced, name one with xProxy-PriceAs-Resource, "
                "or set XPROXY_UNPRICED=allow",
                code="unpriced_model",
                field=where,
            )
        return priced

    def _is_callers_own(self, caller: Caller, category: str, resource: str, now_ms: int) -> bool:
        """Whether what has no price for proxied calls has one for those that are reported."""
        which = (caller.application_id, category, resource, now_ms)
        return self._meter.prices.resource(*which, reported=True) is not None


def _not_the_callers_price(category: str, resource: str) -> NotAllowed:
    return NotAllowed(
        f"the price of {resource!r} in {category!r} was set by a key of the application: it prices "
        "what is reported of that category. Proxied calls are priced by what an administrator sets",
        code="price_not_permitted",
        field="xProxy-PriceAs-Category",
    )


def refuse_unmetered(
    caller: Caller, endpoint: Endpoint, limits: tuple[Limit, ...], path: str
) -> None:
    """Raise NotAllowed for a call that nobody meters, under a limit that blocks."""
    if endpoint.kind != "unmetered":
        return
    binding = [limit.limit_id for limit in limits if limit.binding]
    if binding and not caller.may("unmetered"):
        raise NotAllowed(
            f"the cost of {path} is not metered, and limit {binding[0]!r} blocks: call it without "
            "that limit, or with a key that has the permission `unmetered`",
            code="unmetered_endpoint",
            field="xProxy-Limit-IDs",
        )


def _no_such_limits(missing: list[str], named: bool) -> InvalidRequest:  # noqa: FBT001
    """The fault of a call whose limits are not there; `named` by itself, else attached."""
    whose = "xProxy-Limit-IDs names" if named else "this key is bound by"
    return InvalidRequest(
        f"{whose} limits that do not exist: {', '.join(missing)}. Create "
        f'one with POST /api/v1/limits {{"limit_id": "{missing[0]}", "limit_name": '
        f'"{missing[0]}", "max": 10, "limit_type": "block"}}, or: '
        f"xproxy limits create {missing[0]} --max 10",
        code="invalid_limit_ids",
        field="xProxy-Limit-IDs",
    )
