"""Who serves calls: by the names that callers have for them, and where their APIs are.

Hosts other than OpenAI's own speak its form too. Of each, the public base URL is known, which a
credential's `origin` or `x-portkey-custom-host` overrides. `versioned` ones have base URLs that
stand for everything up to `/v1`, as OpenAI's does; to the others `/v1` is added where it is not the
end already.
"""

from __future__ import annotations

import re

import msgspec

from metering.core.origins import HOST_MAX, Origin
from metering.core.routing import Azure
from metering.errors import InvalidRequest
from metering.settings import Settings


class Host(msgspec.Struct, frozen=True):
    """A host that speaks OpenAI's form, or most of it."""

    name: str
    """The provider in the price book; and by which the routes know it."""
    alias: str
    """Portkey's name of it."""
    base_url: str | None = None
    """Its public one; None: everybody runs their own."""
    versioned: bool = True
    takes_stream_options: bool = True
    """Whether a stream may be asked for its usage. Those that refuse or ignore it state the usage
    in the last chunk anyway."""


HOSTS = (
    Host("anyscale", "anyscale", "https://api.endpoints.anyscale.com/v1"),
    Host("cerebras", "cerebras", "https://api.cerebras.ai/v1"),
    Host("dashscope", "dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
    Host("deepinfra", "deepinfra", "https://api.deepinfra.com/v1/openai"),
    Host("deepseek", "deepseek", "https://api.deepseek.com", versioned=False),
    Host("fireworks", "fireworks-ai", "https://api.fireworks.ai/inference/v1"),
    Host("groq", "groq", "https://api.groq.com/openai/v1"),
    Host("hyperbolic", "hyperbolic", "https://api.hyperbolic.xyz", versioned=False),
    Host("inferenceapis", "inference-net", "https://api.inference.net/v1"),
    Host("lambda-ai", "lambda", "https://api.lambdalabs.com/v1"),
    Host("lingyi", "lingyi", "https://api.lingyiwanwu.com", versioned=False),
    Host("mistral", "mistral-ai", "https://api.mistral.ai/v1", takes_stream_options=False),
    Host("moonshotai", "moonshot", "https://api.moonshot.cn/v1"),
    Host("nebius", "nebius", "https://api.studio.nebius.ai/v1"),
    Host("novita", "novita-ai", "https://api.novita.ai/v3/openai", versioned=False),
    Host("nscale", "nscale", "https://inference.api.nscale.com/v1"),
    Host("ollama", "ollama", versioned=False),
    Host("openrouter", "openrouter", "https://openrouter.ai/api", versioned=False),
    Host("perplexity", "perplexity-ai", "https://api.perplexity.ai", takes_stream_options=False),
    Host("sambanova", "sambanova", "https://api.sambanova.ai", versioned=False),
    Host("siliconflow", "siliconflow", "https://api.siliconflow.cn/v1"),
    Host("together", "together-ai", "https://api.together.xyz", versioned=False),
    Host("x-ai", "x-ai", "https://api.x.ai/v1"),
    Host("zai", "z-ai", "https://api.z.ai/api/paas/v4", takes_stream_options=False),
    Host("zhipuai", "zhipu", "https://open.bigmodel.cn/api/paas/v4", takes_stream_options=False),
)
PUBLIC = {host.name: host.base_url for host in HOSTS if host.base_url is not None}
"""Public base URLs, by name. Callers choose among these; the operator says nothing of them."""
_ALIASES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure-openai": "azure.openai",
    "azure.openai": "azure.openai",
    "azure.anthropic": "azure.anthropic",
    **{host.name: host.name for host in HOSTS},
    **{host.alias: host.name for host in HOSTS},
}
_SHOWN = {
    "azure.openai": "azure-openai",
    **{host.name: host.alias for host in HOSTS},
}

API_VERSION = "2024-10-21"
"""The first that is no preview and knows all of the forms; of who names none."""
VERSIONLESS = frozenset({"v1", "preview", "latest"})
"""What `api-version` is of paths at `/openai/v1`."""
_RESOURCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_SUFFIX = ".openai.azure.com"
_DEPLOYED = frozenset(
    (
        *("chat/completions", "completions", "embeddings"),
        *("images/generations", "images/edits"),
        *("audio/speech", "audio/transcriptions", "audio/translations"),
    )
)
"""What is asked of a deployment; the rest, of the resource."""


def dialect_of(name: str) -> str | None:
    """The routes' name for a provider, by Portkey's or by that itself; None: it is not served."""
    return _ALIASES.get(name)


def known() -> tuple[str, ...]:
    """The names that callers have for providers, in order."""
    return tuple(sorted({name_of(provider) for provider in _ALIASES.values()}))


def name_of(provider: str) -> str:
    """The name that callers have for a provider, by that of the routes."""
    return _SHOWN.get(provider, provider)


def bases_of(settings: Settings) -> dict[str, str]:
    """The base URLs that need not be said, by provider: the operator's, and public ones."""
    operators = {"openai": settings.openai_base_url, "anthropic": settings.anthropic_base_url}
    return PUBLIC | operators


def azure(
    said: Azure, host: Origin | None, path: str, query: bytes, model: str
) -> tuple[Origin | None, str, bytes]:
    """Where a call of OpenAI's goes at Azure: the resource, the path there, and the query.

    `host` takes the resource's place; where neither is said, a stored credential knows. `model` is
    the deployment's name, unless that is said. Raises InvalidRequest.
    """
    if host is None and said.resource is not None:
        host = Origin("https", _resource(said.resource), 443)
    if not path.startswith("/v1/"):
        return host, path, query
    version = _checked(said.api_version or API_VERSION, "api-version")
    operation = path.removeprefix("/v1/")
    if version in VERSIONLESS:
        return host, _under(host, f"/openai/v1/{operation}"), query
    if b"api-version=" not in query:
        query += (b"&" if query else b"") + b"api-version=" + version.encode()
    if operation.rstrip("/") in _DEPLOYED:
        deployment = _checked(said.deployment or model, "deployment-id")
        operation = f"deployments/{deployment}/{operation}"
    return host, _under(host, f"/openai/{operation}"), query


def _under(host: Origin | None, path: str) -> str:
    """A path below a host whose own may have `/openai` at its end already."""
    taken = host is not None and host.path.endswith("/openai")
    return path.removeprefix("/openai") if taken else path


def azure_host(resource: str) -> str | None:
    """Where an Azure resource of this name is; None: nothing is called so."""
    if not _RESOURCE.fullmatch(resource) or len(resource) + len(_SUFFIX) > HOST_MAX:
        return None
    return resource.lower() + _SUFFIX


def _resource(name: str) -> str:
    host = azure_host(name)
    if host is None:
        raise _wrong(
            "resource-name",
            f"must be the resource's name alone, letters, digits and -: of "
            f"https://my-resource{_SUFFIX} it is my-resource",
        )
    return host


def _checked(text: str, name: str) -> str:
    if not _NAME.fullmatch(text):
        missing = "is missing, and the request names no model that could be the deployment"
        problem = "must be letters, digits, ., _ and -, at most 128" if text else missing
        raise _wrong(name, problem)
    return text


def _wrong(name: str, problem: str) -> InvalidRequest:
    field = f"x-portkey-azure-{name}"
    return InvalidRequest(f"Header {field} {problem}", code="invalid_header", field=field)
