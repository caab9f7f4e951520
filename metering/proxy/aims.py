"""Where a call goes that its path does not tell: whose API, with whose key, in which form.

| the first that says something       | example                                                   |
|-------------------------------------|-----------------------------------------------------------|
| the model                           | `@team-claude/claude-opus-4-5`, `@groq/llama-3.3-70b`     |
| the target: virtual key, provider   | `x-portkey-virtual-key`, `x-portkey-provider`             |
| our own header                      | `xProxy-Credential`                                       |
| what stands in the provider's slot  | the slug of a stored credential                           |
| the model's name, the path          | `claude-...`, `gpt-...`; `/v1/messages`                   |

After `@` comes a virtual key, or a provider whose default credential serves the call.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec.structs import replace

from metering.core.credentials import NO_CONFIG, Credential
from metering.core.headers import redacted
from metering.core.origins import Origin
from metering.core.routing import CONFIG, Azure, Target
from metering.directory import Caller
from metering.errors import InvalidRequest, NotFound
from metering.meter import Meter
from metering.providers import DIALECTS, hosts
from metering.providers import request as reading
from metering.providers.base import Dialect, Endpoint
from metering.proxy.credentials import Credentials
from metering.proxy.request import Request
from metering.surfaces.base import PATH_REMEMBERED_MAX
from metering.translate import MODELS, WAYS, Answers, Translate

HOSTED = ("@cf/", "@hf/")
"""What names of models begin with that have an `@` of their own."""
ANTHROPIC_PATHS = ("/v1/messages", "/v1/complete")


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """Where one attempt of a call goes."""

    provider: str
    """By the name that the routes have for it."""
    dialect: Dialect
    endpoint: Endpoint
    path: str
    """The provider's own."""
    query: bytes
    body: bytes | None = None
    """As it goes to the translation, or to the provider; None: as it came."""
    model: str = ""
    """As the provider has it; empty where nothing is said of it."""
    host: Origin | None = None
    """Where to, if the caller says so other than by `xProxy-Provider-BaseUri`."""
    credential: str | None = None
    """The slug of the stored credential that the call names."""
    key: str | None = None
    """The provider's key that the caller brings, to be sent as that provider has it."""
    sent: tuple[bytes, bytes] | None = None
    """The header that key is sent in, if not in the provider's usual one."""
    deployed_model: str | None = None
    """What the deployed model is, as the call says."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    translate: Translate | None = None
    answers: Answers | None = None
    """What comes back, in the client's form, of a call that goes as it came."""
    target: Target = Target()

    @property
    def named(self) -> str:
        """The provider, as the call's client names it."""
        return hosts.name_of(self.provider)


def fixed(provider: str, method: str, path: str, query: bytes) -> Aim:
    """The aim of a call whose path says where it goes."""
    if len(path) + len(query) > PATH_REMEMBERED_MAX:
        return _fixed.__wrapped__(provider, method, path, query)
    return _fixed(provider, method, path, query)


@lru_cache(maxsize=1024)
def _fixed(provider: str, method: str, path: str, query: bytes) -> Aim:
    dialect = DIALECTS[provider]
    endpoint = dialect.endpoint(method, path, query)
    return Aim(provider=provider, dialect=dialect, endpoint=endpoint, path=path, query=query)


class Aims:
    """Finds where the calls of one worker go."""

    def __init__(self, credentials: Credentials, meter: Meter) -> None:
        self._credentials = credentials
        self._meter = meter

    async def of(self, request: Request, target: Target) -> Aim:
        """Where a call goes with a target of its plan; raises CallerFault."""
        body = overridden(await request.body(), target)
        asked, query = _model(body, request.query)
        name = asked
        slug, provider = target.credential, target.provider
        if slug is provider is None:
            slug = request.annotations.credential
        if asked.startswith("@") and not asked.startswith(HOSTED):
            provider, name = _split(asked)
            slug = None
            body = reading.renamed(body, name) if query is None else body
        elif provider is not None and slug is not None:
            provider = None  # a virtual key knows its own
        key = request.said.provider_key() if target.slot else None
        if target.api_key is not None:
            key = request.said.foreign(target.api_key.reveal())
        credential = await self._virtual_key(request.caller, slug, provider, key)
        if credential is not None:
            slug, provider = credential.slug, credential.provider
            target = replace(target, azure=_known(target.azure, credential, name))
        else:
            provider = self._provider(request, provider, name)
        return _aimed(
            request,
            target,
            provider,
            (name, body, request.query if query is None else query),
            slug=slug,
            key=key,
        )

    async def _virtual_key(
        self, caller: Caller, slug: str | None, provider: str | None, key: str | None
    ) -> Credential | None:
        """The stored credential that a call names; None: it names none."""
        if slug is not None:
            return await self._credentials.named(caller, slug)
        if provider is not None and provider.startswith("@"):
            if hosts.dialect_of(provider[1:]) is None:
                return await self._credentials.named(caller, provider[1:])
            return await self._credentials.known(caller, provider[1:])
        if provider is None and key is not None:
            return await self._credentials.known(caller, key)
        return None

    def _provider(self, request: Request, named: str | None, model: str) -> str:
        """A provider by the routes' name for it, from its own name, or what else tells it."""
        if named is not None:
            found = hosts.dialect_of(named.removeprefix("@"))
            if found is None:
                raise InvalidRequest(
                    f"Invalid provider passed: {_shown(named)!r} is not served. There are "
                    f"{', '.join(hosts.known())}",
                    code="unknown_provider",
                    field="x-portkey-provider",
                )
            return found
        model = request.caller.aliases.get(model, model)
        book = self._meter.prices.book
        for provider in ("anthropic", "openai"):
            if model and book.find(provider, model, request.now_ms) is not None:
                return provider
        if not model:
            return "anthropic" if request.path.startswith(ANTHROPIC_PATHS) else "openai"
        raise InvalidRequest(
            "Either x-portkey-config or x-portkey-provider header is required: whose model "
            f"{_shown(model)!r} is not known here. Name the provider in x-portkey-provider, a "
            "virtual key in x-portkey-virtual-key, or both with the model: @provider/model",
            code="provider_is_missing",
            field="x-portkey-provider",
        )


def _known(said: Azure, credential: Credential, model: str) -> Azure:
    """A deployment: what the call says of it, and what its credential knows."""
    if credential.model_config == NO_CONFIG:
        return said
    its = credential.model_config.azure(model)
    both = {it: getattr(said, it) or getattr(its, it) for it in Azure.__struct_fields__}
    return Azure(**both)


def _aimed(
    request: Request,
    target: Target,
    provider: str,
    asked: tuple[str, bytes, bytes],
    *,
    slug: str | None,
    key: str | None,
) -> Aim:
    """The aim at a provider."""
    model, body, query = asked
    dialect = DIALECTS[provider]
    path, endpoint, translate = _form(request, provider, dialect, query)
    aim = Aim(
        provider=provider,
        dialect=dialect,
        endpoint=endpoint,
        path=path,
        query=query,
        body=body,
        model=model,
        host=target.host,
        credential=slug,
        key=key if slug is None else None,
        headers=target.headers,
        translate=translate,
        answers=MODELS if _lists_models(request, provider) else None,
        target=target,
    )
    return _at_azure(request, aim, body) if provider == "azure.openai" else aim


def _form(
    request: Request, provider: str, dialect: Dialect, query: bytes
) -> tuple[str, Endpoint, Translate | None]:
    """The provider's own endpoint of a path, or one that the call is translated for. Raises
    NotFound where there is neither."""
    path = request.path
    endpoint = dialect.endpoint(request.method, path, query)
    if endpoint.kind != "unmetered" or request.method != "POST":
        return path, endpoint, None
    way = WAYS.get(path.rstrip("/"))
    if way is not None:
        there = dialect.endpoint("POST", way.path, query)
        if there.kind == "metered":
            return way.path, there, way.translate
    if way is not None or DIALECTS["openai"].endpoint("POST", path).kind == "metered":
        raise NotFound(
            f"{provider} has no {path}, and nothing that it could be translated to: call a model "
            "of another provider",
            code="not_served_by_provider",
        )
    return path, endpoint, None


def _at_azure(request: Request, aim: Aim, body: bytes) -> Aim:
    """An aim at Azure: which resource's, which deployment's, and by whose word."""
    said = aim.target.azure
    host, path, query = hosts.azure(said, aim.host, aim.path, aim.query, aim.model)
    if said.deployment and said.api_version in hosts.VERSIONLESS and aim.model:
        body = reading.renamed(body, said.deployment)  # whose name the path does not have
    token = None if said.token is None else request.said.foreign(said.token.reveal())
    own = token is not None and aim.credential is None
    return replace(
        aim,
        host=host,
        path=path,
        query=query,
        body=body,
        endpoint=aim.dialect.endpoint(request.method, path, query),
        key=token if own else aim.key,
        sent=(b"authorization", f"Bearer {token}".encode()) if own else None,
        deployed_model=said.model,
    )


def _lists_models(request: Request, provider: str) -> bool:
    """Whether a call asks Anthropic for its models, and is no client of Anthropic's."""
    if provider != "anthropic" or request.method != "GET":
        return False
    return request.path.startswith("/v1/models") and not request.said.has(b"anthropic-version")


def check_named(model: str) -> None:
    """Raise InvalidRequest for a form's model with somebody before it."""
    if model.startswith("@") and not model.startswith(HOSTED):
        raise InvalidRequest(
            f"model {model[:64]!r} names a virtual key or a provider, and a form is sent as it "
            "comes: name that in x-portkey-virtual-key or x-portkey-provider, and the model alone "
            "in the form",
            code="invalid_request_field",
            field="model",
        )


def overridden(body: bytes, target: Target) -> bytes:
    """A request with the members that its target sets; one without a body has none."""
    if not target.override or not body:
        return body
    if not body.lstrip().startswith(b"{"):
        raise InvalidRequest(
            "override_params sets members of JSON requests, and this is none: a form is sent as it "
            "comes. Leave it out, or send JSON",
            code="invalid_config",
            field=f"{CONFIG}: {target.index}.override_params",
        )
    return reading.encode({**reading.members(body), **target.override})


def _model(body: bytes, query: bytes) -> tuple[str, bytes | None]:
    """The model that a request names, and the query without it, if that is where it stands."""
    if b"model=" in query:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        named = [value for name, value in pairs if name == "model"]
        if named and named[0].startswith("@"):
            rest = [(name, value) for name, value in pairs if name != "model"]
            return named[0], urlencode(rest).encode()
    if not body.lstrip().startswith(b"{"):  # a form, which is read where it is metered, or nothing
        return "", None
    try:
        return _model_of(body).model or "", None
    except (ValueError, RecursionError):  # it is refused where it is read
        return "", None


class _Named(msgspec.Struct):
    model: str | None = None


_model_of = msgspec.json.Decoder(_Named).decode


def _split(model: str) -> tuple[str, str]:
    """`@slug/model` as `@slug` and the model."""
    slug, _, name = model.partition("/")
    if not name:
        raise InvalidRequest(
            f"model {_shown(model)!r} names a virtual key or a provider, and no model: send "
            f"{_shown(slug)}/ and the model's name after it",
            code="invalid_request_field",
            field="model",
        )
    return slug, name


def _shown(name: str) -> str:
    """A name as an error repeats it: a key may stand there by mistake."""
    return redacted(name)[:64]
