"""OpenAI's dialect: which endpoint speaks which form."""

from __future__ import annotations

import msgspec

from metering.providers import request
from metering.providers.base import Ask, Endpoint, Form
from metering.providers.dialect import FormDialect, metered
from metering.providers.openai.audio import Speech, Transcriptions
from metering.providers.openai.chat import Chat, Completions
from metering.providers.openai.containers import Containers
from metering.providers.openai.decisions import Decisions
from metering.providers.openai.embeddings import Embeddings
from metering.providers.openai.images import Images
from metering.providers.openai.responses import Responses
from metering.providers.paths import posts

FORMS: dict[str, Form] = {
    "chat.completions": Chat(),
    "completions": Completions(),
    "embeddings": Embeddings(),
    "responses": Responses(),
    "responses.compact": Responses(),
    "decisions": Decisions(),
    "containers": Containers(),
    "images.generations": Images(),
    "images.edits": Images(),
    "images.variations": Images(),
    "audio.speech": Speech(),
    "audio.transcriptions": Transcriptions(),
    "audio.translations": Transcriptions(),
}
"""By endpoint name. A compaction asks and answers as a response does."""
RETRIEVED = Endpoint("responses", "free", restates=True)
"""A response that is looked at again: of one made in the background, its end."""
RETRIEVALS = {"GET": posts("/v1/responses/*"), "POST": posts("/v1/responses/*/cancel")}
FREE_POSTS = posts(
    "/v1/moderations",
    "/v1/files/**",
    "/v1/uploads/**",
    "/v1/responses/input_tokens",
    "/v1/responses/*/cancel",
    "/v1/chat/completions/*",  # the metadata of a stored one
    "/v1/conversations/**",
    "/v1/vector_stores/**",
    "/v1/assistants/**",
    "/v1/threads",
    "/v1/threads/thread_*",
    "/v1/threads/*/messages/**",
    "/v1/threads/*/runs/*/cancel",
    "/v1/containers/*/files",
    "/v1/fine_tuning/jobs/*/*",  # to cancel, pause or resume one
    "/v1/fine_tuning/alpha/graders/validate",
    "/v1/batches/*/cancel",
    "/v1/evals",
    "/v1/evals/*",
    "/v1/evals/*/runs/*/cancel",
    "/v1/skills/**",
    "/v1/webhook_endpoints/**",
)
"""POSTs that cost nothing. A run of a thread, a fine-tuning job or a batch does."""
STREAM_OPTIONS_FORMS = frozenset({"chat.completions", "completions"})
"""Whose streams state their usage when asked to; others do it anyway."""


class OpenAI(FormDialect):
    """See `base.Dialect`."""

    name = "openai"
    category = "system.openai"
    versioned = True
    forms = FORMS
    metered = metered(FORMS)
    free_posts = FREE_POSTS

    def endpoint(self, method: str, path: str, query: bytes = b"") -> Endpoint:
        """See `base.Dialect`."""
        found = super().endpoint(method, path, query)
        if found.kind == "metered":
            return found
        again = RETRIEVALS.get(method)
        return RETRIEVED if again is not None and again.fullmatch(path) else found

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """See `base.Dialect`."""
        return b"authorization", b"Bearer " + secret.encode()


def unasked(endpoint: Endpoint, ask: Ask, body: bytes) -> Ask:
    """What a request asks for whose stream must not be asked for its usage: as its caller sent it,
    who may have asked."""
    if not ask.stream or ask.include_usage or endpoint.name not in STREAM_OPTIONS_FORMS:
        return ask
    as_sent = request.once(body, request.members(body))
    return msgspec.structs.replace(ask, changed_body=as_sent)
