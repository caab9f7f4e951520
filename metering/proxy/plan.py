"""From a request to a `Call`: who asks, for what, at which price, to where, within which limits."""

from __future__ import annotations

import msgspec

from metering import audio, tokens
from metering.core.addresses import Visitor, is_local
from metering.core.annotations import Annotations
from metering.core.headers import query_to_provider
from metering.core.limits import Limit
from metering.core.origins import Origin
from metering.core.record import Pricing, UsageRow
from metering.directory import Caller, Directory, Held
from metering.errors import InvalidApiKey, InvalidRequest, NotAllowed, NotFound
from metering.meter import Meter, Priced, price_of
from metering.providers import DIALECTS, provider_of, request
from metering.providers.base import NOTHING, Ask, Dialect, Endpoint
from metering.proxy.call import Call
from metering.proxy.credentials import Credentials
from metering.proxy.destination import Destinations, missing, no_stored_key
from metering.proxy.exchange import Exchange
from metering.proxy.permitted import asked, check_not_blocked, held_to
from metering.proxy.said import Reader, Said
from metering.proxy.spends import Spends
from metering.settings import Settings
from metering.surfaces import SURFACES
from metering.surfaces.base import upstream_url
from metering.upstream import Resolver


class _Who(msgspec.Struct, frozen=True, gc=False):
    """Who calls, and with whose key where to."""

    caller: Caller
    said: Said
    annotations: Annotations
    """What the headers say."""
    chosen: Origin | None
    """Where to, if not to the operator's own."""
    slug: str | None
    """The stored credential that serves the call, if one does, and its secret."""
    secret: str | None


class Planner:
    """Plans the calls of one worker; asks the directory and names' addresses, never a provider."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        meter: Meter,
        resolver: Resolver,
        spends: Spends,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._meter = meter
        self._spends = spends
        self._readers = {
            it: Reader(it, directory.is_admin_key, settings.admin_key) for it in SURFACES
        }
        self._destinations = Destinations(settings, resolver)
        self._credentials = Credentials(settings, directory)

    async def plan(
        self, exchange: Exchange, *, request_id: str, now_ms: int, started_s: float
    ) -> Call:
        """Everything about a call that can be known before it is made; raises CallerFault."""
        surface = exchange.surface
        route = surface.match(exchange.raw_path)
        if route is None:
            raise NotFound(f"there is no provider at {exchange.raw_path.decode('latin-1')}")
        provider, path = route
        dialect = DIALECTS[provider]
        who = await self._who(exchange, provider, dialect)
        caller, slug, secret = who.caller, who.slug, who.secret
        endpoint = dialect.endpoint(exchange.method, path, exchange.query)
        metered = endpoint.kind == "metered"
        if metered and dialect.needs_resource and who.annotations.price_as_resource is None:
            raise missing("xProxy-PriceAs-Resource", "what the deployed model is: claude-opus-4-5")
        body = await exchange.body(self._settings.body_bytes_max, self._settings.body_s)
        if surface.member is not None:
            body, ours = _taken(surface.member, body)
        ask, body = await _asked(caller, dialect, endpoint, body, who.said.content_type)
        annotations = who.annotations
        if surface.member is not None:
            annotations = surface.complete(
                annotations, ours, end_user=ask.end_user, key_user=caller.user_id
            )
        holding = await self._holding(caller, annotations)
        caller = held_to(caller, holding, dialect, endpoint, ask)
        limits = await self._limits(caller, annotations, endpoint, slug)
        _refuse_unmetered(caller, endpoint, limits, path)
        priced = self._price(
            dialect, ask, annotations, limits, caller=caller, credential=slug, now_ms=now_ms
        )
        sent = None if secret is None else dialect.credential(secret)
        return Call(
            surface=surface,
            told=surface.about_key(limits, caller.limit_ids, self._spends.of),
            caller=caller,
            annotations=annotations,
            dialect=dialect,
            endpoint=endpoint,
            ask=ask,
            limits=limits,
            priced=priced,
            row=_row(
                who,
                annotations,
                dialect,
                endpoint,
                ask,
                surface=surface.name,
                method=exchange.method,
                path=path,
                request_id=request_id,
                now_ms=now_ms,
            ),
            method=exchange.method,
            url=self._url(provider, dialect, who, path, exchange.query),
            addresses=None
            if who.chosen is None
            else await self._destinations.addresses(who.chosen),
            headers=who.said.passed(dialect, sent),
            body=dialect.upstream_body(ask, body) if metered else body,
            stored_key=None if secret is None else secret.encode(),
            tokens_asked=ask.tokens + await tokens.count_all(ask.texts, priced.model),
            started_s=started_s,
        )

    async def _who(self, exchange: Exchange, provider: str, dialect: Dialect) -> _Who:
        """Who calls, and with whose key where to."""
        said = self._readers[exchange.surface].read(exchange.headers)
        caller, said = await self._authenticate(exchange, said)
        annotations = _permitted(caller, dialect, said.annotations())
        credential = await self._credentials.serving(caller, said, provider, annotations)
        chosen = self._destinations.of(caller, dialect, annotations.base_uri, credential)
        if credential is None and said.slot_is_free:
            raise _no_key(provider) if chosen is None else no_stored_key(chosen)
        slug = None if credential is None else credential.slug
        secret = None if credential is None else credential.revealed()
        return _Who(caller, said, annotations, chosen, slug, secret)

    def _url(self, provider: str, dialect: Dialect, who: _Who, path: str, query: bytes) -> str:
        base = self._destinations.base_url(dialect, who.chosen)
        stored = who.secret is not None
        passed = query_to_provider(query, stored=stored, our_keys=who.said.our_keys)
        return upstream_url(provider, base, path, passed)

    async def _authenticate(self, exchange: Exchange, said: Said) -> tuple[Caller, Said]:
        """Who calls, and what is said then: of who needs no key of ours, any may stand in for
        the provider's."""
        visitor = Visitor(exchange.peer, exchange.headers)
        caller = None
        lets_in = self._lets_in(said, visitor)
        own = said.brought_along()
        if lets_in:
            caller = await self._directory.caller(own.key) if own.key else None
        elif own.key:
            caller = await self._directory.admit(own.key, visitor)
        if caller is not None:
            said = own
        elif lets_in:
            caller = await self._directory.anonymous(visitor)
            said = said.without_placeholder()
        if caller is None:
            raise InvalidApiKey(field="xProxy-Api-Key")
        if caller.role == "read":
            raise NotAllowed("a key with role `read` cannot make provider calls; use an `app` key")
        return caller, said

    def _lets_in(self, said: Said, visitor: Visitor) -> bool:
        """Whether whoever calls needs no key of ours. Some key is asked for all the same: no page
        in a browser can make it show one without asking first."""
        if self._settings.anonymous != "loopback" or not said.shows_another_key:
            return False
        return is_local(visitor)

    async def _holding(self, caller: Caller, annotations: Annotations) -> tuple[Held, ...]:
        """Whom the call is for, if it is held to anything because of him."""
        holding = await self._directory.holding(
            caller, user_id=annotations.user_id, customer=annotations.account_name
        )
        check_not_blocked(holding)
        return holding

    async def _limits(
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

    def _price(
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


def _no_key(provider: str) -> InvalidApiKey:
    return InvalidApiKey(
        f"this call brings no {provider} key and none is stored: send the provider's key in its "
        f"usual header, store one (xproxy credentials create main --provider {provider} "
        f"--default), or start the service with {provider.upper()}_API_KEY",
        code="provider_key_missing",
    )


def _taken(name: str, body: bytes) -> tuple[bytes, msgspec.Raw | None]:
    """What of a body is for the provider, and the member that is for us, if there is one."""
    return request.without(body, name) if b'"%b"' % name.encode() in body else (body, None)


async def _asked(
    caller: Caller, dialect: Dialect, endpoint: Endpoint, body: bytes, content_type: bytes
) -> tuple[Ask, bytes]:
    """What is asked for, and the request; with how long a recording in it lasts in its place."""
    ask, body = asked(caller, dialect, endpoint, body, content_type)
    if ask.audio:
        counted = {"audio_seconds": await audio.seconds(ask.audio)}
        ask = msgspec.structs.replace(ask, audio=b"", counted=counted)
    return ask, body


def _permitted(caller: Caller, dialect: Dialect, annotations: Annotations) -> Annotations:
    """The annotations, if the caller may price as they say. What a deployment is, everybody may
    say, for its name does not; and the category that it is anyway."""
    category, resource = annotations.price_as_category, annotations.price_as_resource
    if category is resource is None or caller.may("price_as"):
        return annotations
    if resource is not None and not dialect.deployed:
        raise _needs_price_as("xProxy-PriceAs-Resource")
    if category is not None and category != dialect.category:
        raise _needs_price_as("xProxy-PriceAs-Category")
    return annotations


def _needs_price_as(header: str) -> NotAllowed:
    return NotAllowed(f"{header} needs a key with the permission `price_as`", field=header)


def _refuse_unmetered(
    caller: Caller, endpoint: Endpoint, limits: tuple[Limit, ...], path: str
) -> None:
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


def _row(
    who: _Who,
    annotations: Annotations,
    dialect: Dialect,
    endpoint: Endpoint,
    ask: Ask,
    *,
    surface: str,
    method: str,
    path: str,
    request_id: str,
    now_ms: int,
) -> UsageRow:
    """The usage row as far as it is known: what is left of a call if this process dies."""
    caller = who.caller
    pricing: dict[str, Pricing] = {"free": "free", "unmetered": "unmetered"}
    labels = annotations.labels(caller.user_id, caller.customer)
    if caller.tags:
        labels["tags"] = list(dict.fromkeys((*caller.tags, *annotations.tags)))
    return UsageRow(
        application_id=caller.application_id,
        request_id=request_id,
        at_ms=now_ms,
        key_id=caller.key_id,
        surface=surface,
        provider=dialect.name,
        category=dialect.category,
        method=method,
        endpoint=path,
        streamed=ask.stream,
        status="unresolved",
        pricing=pricing.get(endpoint.kind, "priced"),
        model_requested=ask.model or None,
        model=annotations.price_as_resource or ask.model or None,
        price_as_category=annotations.price_as_category,
        price_as_resource=annotations.price_as_resource,
        service_tier=ask.service_tier,
        provider_host=None if who.chosen is None else who.chosen.authority,
        credential=who.slug,
        retry_count=who.said.retry_count,
        **labels,
    )
