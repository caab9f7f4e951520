"""Azure's dialects: OpenAI's and Anthropic's forms, at deployments whose names say nothing.

| path                                             | means what OpenAI's does      |
|--------------------------------------------------|-------------------------------|
| /openai/deployments/{deployment}/chat/completions | /v1/chat/completions          |
| /openai/v1/responses, /openai/responses           | /v1/responses                 |

What a deployment is, the answer says, or the caller: `xProxy-PriceAs-Resource`. The path is the
resource's own; `/openai` may also stand in the base URI.
"""

from __future__ import annotations

from urllib.parse import parse_qs, unquote

import msgspec

from metering.providers.anthropic import Anthropic
from metering.providers.base import Ask, Endpoint
from metering.providers.openai import OpenAI, unasked

STREAM_OPTIONS_SINCE = "2024-09-01"
"""The first `api-version` that knows `stream_options`; those before it refuse the member."""
OWN_DATA = (b'"data_sources"', b'"dataSources"')
"""A chat over one's own data, which refuses `stream_options` to this day."""


class AzureOpenAI(OpenAI):
    """See `base.Dialect`."""

    name = "azure"
    category = "system.azureopenai"
    versioned = False
    deployed = True
    models_path = "/openai/v1/models"

    def endpoint(self, method: str, path: str, query: bytes = b"") -> Endpoint:
        """See `base.Dialect`."""
        deployment, plain = _openai_path(path)
        found = super().endpoint(method, plain)
        if found.kind != "metered":
            return found
        return msgspec.structs.replace(
            found, model=deployment, streams_usage=_knows_stream_options(query)
        )

    def ask(self, endpoint: Endpoint, body: bytes, content_type: bytes = b"") -> Ask:
        """See `base.Dialect`. A stream that must not be asked for its usage is estimated."""
        ask = super().ask(endpoint, body, content_type)
        if endpoint.streams_usage and not any(member in body for member in OWN_DATA):
            return ask
        return unasked(endpoint, ask, body)

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """See `base.Dialect`. As `Bearer`, older paths take nothing but tokens of Entra's."""
        return b"api-key", secret.encode()


class AzureAnthropic(Anthropic):
    """See `base.Dialect`."""

    name = "azure"
    category = "system.azure"
    deployed = True
    needs_resource = True
    models_path = "/anthropic/v1/models"

    def endpoint(self, method: str, path: str, query: bytes = b"") -> Endpoint:
        """See `base.Dialect`."""
        segments = _segments(path)
        plain = segments[1:] if segments[:1] == ["anthropic"] else segments
        return super().endpoint(method, "/" + "/".join(plain), query)


def _openai_path(path: str) -> tuple[str, str]:
    """The deployment that a path names, if any, and OpenAI's path for the same."""
    segments = _segments(path)
    if segments[:1] == ["openai"]:
        segments = segments[1:]
    deployment = ""
    match segments:
        case ["deployments", deployment, *rest] if rest:
            segments = rest
        case ["v1", *rest]:
            segments = rest
    return deployment if deployment.isprintable() else "", "/v1/" + "/".join(segments)


def _segments(path: str) -> list[str]:
    """A path's segments, decoded; what a name does not depend on the case of, in lower case."""
    segments = [segment for segment in unquote(path).split("/") if segment]
    return [it.lower() if it.lower() in _WORDS else it for it in segments]


_WORDS = frozenset({"anthropic", "deployments", "openai", "v1"})


def _knows_stream_options(query: bytes) -> bool:
    """Whether the `api-version` of a query does; the versionless `/v1`, and `preview`, do."""
    version = parse_qs(query.decode("latin-1")).get("api-version", [""])[-1]
    return not version[:1].isdigit() or version >= STREAM_OPTIONS_SINCE
