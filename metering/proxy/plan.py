"""From a request to a `Call`: who asks, for what, at which price, to where, within which limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import msgspec

from metering import audio, tokens
from metering.core import origins
from metering.core.annotations import Annotations, is_text
from metering.core.headers import query_to_provider, without_our_keys
from metering.core.origins import Origin
from metering.core.record import Pricing, UsageRow
from metering.core.routing import NOBODY, Target
from metering.directory import Caller, Directory
from metering.errors import CallerFault, InvalidApiKey, NotAllowed, NotFound
from metering.meter import Meter
from metering.providers.base import Ask, Dialect, Endpoint
from metering.proxy.aims import Aim, Aims, check_named, fixed
from metering.proxy.call import Call
from metering.proxy.callers import Callers
from metering.proxy.conditions import Conditions, refuse_unmetered
from metering.proxy.credentials import Credentials
from metering.proxy.destination import Destinations, missing, no_stored_key
from metering.proxy.exchange import Exchange
from metering.proxy.permitted import asked, held_to
from metering.proxy.request import Request
from metering.proxy.spends import Spends
from metering.settings import Settings
from metering.surfaces.base import Route, upstream_url
from metering.tokens import THREAD_FROM_BYTES
from metering.translate.base import Options, Translate, Translated
from metering.upstream import Resolver


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One try of a call."""

    number: int = 1
    target: Target = NOBODY
    retries: int = 0
    """How often this target has been tried before."""


FIRST = Attempt()
JSON = (b"content-type", b"application/json")


class _Who(msgspec.Struct, frozen=True, gc=False):
    """With whose key a call goes, and where to."""

    annotations: Annotations
    """What the headers say."""
    chosen: Origin | None
    """Where to, if not to the operator's own."""
    slug: str | None
    """The stored credential that serves the call, if one does, and its secret."""
    secret: str | None
    sent: tuple[bytes, bytes] | None
    """The provider's key as a header, if it is not sent as it came."""


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
        self._meter = meter
        self._spends = spends
        self._callers = Callers(settings, directory)
        self._conditions = Conditions(settings, directory, meter)
        self._destinations = Destinations(settings, resolver)
        self._credentials = Credentials(settings, directory)
        self._aims = Aims(self._credentials, meter)

    async def hear(
        self, exchange: Exchange, *, request_id: str, now_ms: int, started_s: float
    ) -> Request:
        """Who asks; raises CallerFault."""
        surface = exchange.surface
        route = surface.match(exchange.raw_path)
        if route is None:
            raise NotFound(f"there is no provider at {exchange.raw_path.decode('latin-1')}")
        return Request(
            exchange,
            route,
            await self._callers.of(exchange, surface),
            self._settings,
            request_id=request_id,
            now_ms=now_ms,
            started_s=started_s,
        )

    def plan(self, request: Request, attempt: Attempt = FIRST) -> Awaitable[Call]:
        """Everything about a call that can be known before it is made; raises CallerFault."""
        plan = self._plan if attempt.target.host is None else self._plan_there
        return plan(request, attempt)

    async def _plan_there(self, request: Request, attempt: Attempt) -> Call:
        """The same of a call whose host was chosen by other words than ours: faults name those."""
        try:
            return await self._plan(request, attempt)
        except CallerFault as fault:
            raise origins.of_field(fault, attempt.target.host_field) from None

    async def _plan(self, request: Request, attempt: Attempt) -> Call:
        surface, conditions = request.surface, self._conditions
        if request.provider:
            aim = fixed(request.provider, request.method, request.path, request.query)
        else:
            aim = await self._aims.of(request, attempt.target)
        dialect, endpoint = aim.dialect, aim.endpoint
        who = await self._who(request, aim)
        metered = endpoint.kind == "metered"
        if metered and dialect.needs_resource and who.annotations.price_as_resource is None:
            raise missing("xProxy-PriceAs-Resource", "what the deployed model is: claude-opus-4-5")
        body = await request.body() if aim.body is None else aim.body
        translated = None
        if aim.translate is not None:
            translated = await self._translated(request, aim, who, body, aim.translate)
            body = translated.body
        ask, body = await _asked(request.caller, dialect, endpoint, body, request.said.content_type)
        if not request.provider:
            check_named(ask.model)
        annotations = who.annotations
        if surface.members:
            annotations = surface.complete(
                annotations, request.ours, end_user=ask.end_user, key_user=request.caller.user_id
            )
        holding = await conditions.holding(request.caller, annotations)
        caller = held_to(request.caller, holding, dialect, endpoint, ask)
        limits = await conditions.limits(caller, annotations, endpoint, who.slug)
        refuse_unmetered(caller, endpoint, limits, aim.path)
        priced = conditions.price(
            dialect,
            ask,
            annotations,
            limits,
            caller=caller,
            credential=who.slug,
            now_ms=request.now_ms,
        )
        return Call(
            surface=surface,
            told=[
                *surface.about_key(limits, caller.limit_ids, self._spends.of),
                *_about_route(request, aim, attempt, annotations, translated),
            ],
            caller=caller,
            annotations=annotations,
            dialect=dialect,
            endpoint=endpoint,
            ask=ask,
            limits=limits,
            priced=priced,
            row=_row(request, who, annotations, aim, ask, attempt=attempt.number),
            method=request.method,
            url=self._url(request, aim, who),
            addresses=None
            if who.chosen is None
            else await self._destinations.addresses(who.chosen),
            headers=_headers(request, aim, who, translated),
            body=dialect.upstream_body(ask, body) if metered else body,
            answers=aim.answers if translated is None else translated.answers,
            timeout_ms=aim.target.timeout_ms,
            host_field=None if aim.target.host is None else aim.target.host_field,
            stored_key=None if who.secret is None else who.secret.encode(),
            tokens_asked=ask.tokens + await tokens.count_all(ask.texts, priced.model),
            started_s=request.started_s,
        )

    async def _who(self, request: Request, aim: Aim) -> _Who:
        """With whose key a call goes, and where to."""
        caller, dialect = request.caller, aim.dialect
        annotations = request.annotations
        if aim.deployed_model and annotations.price_as_resource is None:
            annotations = msgspec.structs.replace(annotations, price_as_resource=aim.deployed_model)
        annotations = _permitted(caller, dialect, annotations)
        slot_is_free = request.said.slot_is_free if request.provider else aim.key is None
        credential = await self._credentials.serving(
            caller,
            aim.provider,
            annotations.credential or aim.credential,
            slot_is_free=slot_is_free,
        )
        base_uri = annotations.base_uri or aim.host
        chosen = self._destinations.of(caller, dialect, base_uri, credential)
        if credential is not None:
            secret = credential.revealed()
            header = dialect.credential(secret)
            return _Who(annotations, chosen, credential.slug, secret, header)
        if slot_is_free:
            raise _no_key(aim.provider) if chosen is None else no_stored_key(chosen)
        sent = aim.sent or (None if aim.key is None else dialect.credential(aim.key))
        return _Who(annotations, chosen, None, None, sent)

    async def _translated(
        self, request: Request, aim: Aim, who: _Who, body: bytes, translate: Translate
    ) -> Translated:
        """The request in the provider's form."""
        most = await self._conditions.most_output(
            request, aim, who.annotations, credential=who.slug, spent=self._spends.of
        )
        options = Options(
            created_s=request.now_ms // 1000, max_output_tokens=most, strict=aim.target.strict
        )
        if len(body) < THREAD_FROM_BYTES:
            return translate(body, options)
        return await asyncio.to_thread(translate, body, options)

    def _url(self, request: Request, aim: Aim, who: _Who) -> str:
        base = self._destinations.base_url(aim.dialect, who.chosen)
        stored = who.secret is not None
        passed = query_to_provider(aim.query, stored=stored, our_keys=request.said.our_keys)
        return upstream_url(base, aim.path, passed, versioned=aim.dialect.versioned)


def _headers(
    request: Request, aim: Aim, who: _Who, translated: Translated | None
) -> list[tuple[bytes, bytes]]:
    """The headers to send upstream. Those of the target, and of a translation, are added to the
    caller's of the same name where they are lists, and take their place otherwise."""
    passed = request.said.passed(aim.dialect, who.sent)
    if request.provider:
        return passed
    more = aim.headers
    if translated is not None:
        more = (*more, *translated.headers, JSON)
    for name, value in without_our_keys(more, request.said.our_keys) if more else ():
        before = [it for key, it in passed if key == name]
        passed = [header for header in passed if header[0] != name]
        lists = name == b"anthropic-beta"
        passed.append((name, b",".join(dict.fromkeys([*before, value])) if lists else value))
    return passed


def _about_route(
    request: Request,
    aim: Aim,
    attempt: Attempt,
    annotations: Annotations,
    translated: Translated | None,
) -> Sequence[tuple[bytes, bytes]]:
    """What the answer says of the way that a call went, if its path does not tell."""
    if request.provider:
        return ()
    trace_id = annotations.properties.get("trace_id")
    route = Route(
        trace_id=trace_id if trace_id and is_text(trace_id) else request.request_id,
        provider=aim.named,
        index=attempt.target.index,
        retries=attempt.retries,
        dropped=() if translated is None else translated.dropped,
        changed=() if translated is None else translated.changed,
    )
    return request.surface.about_route(route)


def _no_key(provider: str) -> InvalidApiKey:
    how = f"store one (xproxy credentials create main --provider {provider} --default)"
    if provider in ("openai", "anthropic"):  # which the operator's environment may have
        how += f", or start the service with {provider.upper()}_API_KEY"
    return InvalidApiKey(
        f"this call brings no {provider} key and none is stored: send the provider's key in its "
        f"usual header; or {how}",
        code="provider_key_missing",
    )


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


def _row(
    request: Request,
    who: _Who,
    annotations: Annotations,
    aim: Aim,
    ask: Ask,
    *,
    attempt: int,
) -> UsageRow:
    """The usage row as far as it is known: what is left of a call if this process dies."""
    caller = request.caller
    pricing: dict[str, Pricing] = {"free": "free", "unmetered": "unmetered"}
    labels = annotations.labels(caller.user_id, caller.customer)
    if caller.tags:
        labels["tags"] = list(dict.fromkeys((*caller.tags, *annotations.tags)))
    return UsageRow(
        application_id=caller.application_id,
        request_id=request.request_id,
        attempt=attempt,
        at_ms=request.now_ms,
        key_id=caller.key_id,
        surface=request.surface.name,
        provider=aim.dialect.name,
        category=aim.dialect.category,
        method=request.method,
        endpoint=aim.path,
        streamed=ask.stream,
        status="unresolved",
        pricing=pricing.get(aim.endpoint.kind, "priced"),
        model_requested=ask.model or None,
        model=annotations.price_as_resource or ask.model or None,
        price_as_category=annotations.price_as_category,
        price_as_resource=annotations.price_as_resource,
        service_tier=ask.service_tier,
        provider_host=None if who.chosen is None else who.chosen.authority,
        credential=who.slug,
        retry_count=request.said.retry_count,
        **labels,
    )
