"""`/v1/models` of a client that names no provider: every model that has a price, as it is called
here, of each provider whose key is stored.

With a provider or a virtual key the call goes to that provider, and its own list comes back.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Literal

import msgspec
from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from metering.api.portkey import MODELS
from metering.api.server import ApiRequest
from metering.core.credentials import environment_slug, may_use
from metering.providers import DIALECTS, hosts
from metering.store import credentials
from pricing.catalogue import TOOLS

LIMIT_MAX = 5_000
CREDENTIALS_MAX = 500
"""Of so many of an application's, the newest, models are listed."""


class ModelView(msgspec.Struct, kw_only=True):
    """A model, as OpenAI lists it."""

    id: str
    """`@slug/model`: what a call says as its model."""
    slug: str
    """The model's own name."""
    canonical_slug: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class ModelList(msgspec.Struct, kw_only=True):
    """Models, in order of their names."""

    object: Literal["list"] = "list"
    total: int
    data: list[ModelView]


class ModelController(Controller):
    """List models."""

    path = MODELS
    tags = ("models",)

    @get()
    async def page(
        self,
        request: ApiRequest,
        *,
        limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)] = LIMIT_MAX,
        offset: Annotated[int, QueryParameter(ge=0)] = 0,
        provider: FromQuery[str | None] = None,
    ) -> ModelList:
        """The models of each credential that the caller may use; `provider` is a slug, or a
        provider's name."""
        owners = await _owners(request)
        if provider is not None:
            name = provider.removeprefix("@")
            owners = {it: of for it, of in owners.items() if name in (it, of, hosts.name_of(of))}
        views = await asyncio.to_thread(lambda: list(_models(request, owners)))
        return ModelList(total=len(views), data=list(islice(views, offset, offset + limit)))


async def _owners(request: ApiRequest) -> dict[str, str]:
    """What a call may say before a model's name, and which provider that is: slugs of credentials,
    the operator's keys among them."""
    services, permissions = request.services, request.auth.permissions
    operators = {
        "openai": services.settings.openai_api_key,
        "anthropic": services.settings.anthropic_api_key,
    }
    owners = {environment_slug(name): name for name, key in operators.items() if key}
    stored = await credentials.page(
        services.store, request.user.application_id, page_size=CREDENTIALS_MAX
    )
    owners |= {it.slug: it.provider for it in stored.items if not it.blocked and it.last4}
    if request.user.is_admin:
        return owners
    return {slug: name for slug, name in owners.items() if may_use(permissions, slug)}


def _models(request: ApiRequest, owners: dict[str, str]) -> Iterator[ModelView]:
    """The models of these owners, from the price list."""
    named: dict[str, list[str]] = {}
    for name, entry in request.services.prices.now.book.models():
        if entry.id != TOOLS:
            named.setdefault(name, []).append(entry.id)
    for slug, provider in sorted(owners.items()):
        for model in sorted(named.get(DIALECTS[provider].name, ())):
            yield ModelView(
                id=f"@{slug}/{model}",
                slug=model,
                canonical_slug=model,
                owned_by=hosts.name_of(provider),
            )
