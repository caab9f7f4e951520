"""The dialect of hosts that speak OpenAI's form, or most of it: see `hosts`."""

from __future__ import annotations

import msgspec

from metering.core.reach import Reach
from metering.providers import request
from metering.providers.base import Ask, Endpoint
from metering.providers.beyond import Tally, refuse_members
from metering.providers.dialect import metered
from metering.providers.hosts import Host
from metering.providers.openai import FORMS, STREAM_OPTIONS_FORMS, OpenAI, unasked
from metering.providers.paths import posts

SHARED = ("chat.completions", "completions", "embeddings", "responses")
"""The forms that hosts took over, with the usage that they state."""
FREE_POSTS = posts("/v1/files/**", "/v1/batches/*/cancel")
FEES = {
    "perplexity": "bills a fee for each request beside its tokens, by how much it searched: call "
    "a model of another provider"
}
"""Hosts whose calls nothing bounds, with the reason."""
SEARCHES = {
    "plugins": "has the host run tools that are billed beside tokens: leave it out",
    "search_parameters": "has the host search, which is billed by the source: leave it out",
}
"""Members of requests that OpenAI does not know, and some hosts bill, with the reason."""


class Compatible(OpenAI):
    """One host; see `base.Dialect`."""

    metered = metered({name: FORMS[name] for name in SHARED})
    free_posts = FREE_POSTS

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self.category = f"system.{host.name}"
        self.versioned = host.versioned
        self._streams_usage = host.takes_stream_options

    def endpoint(self, method: str, path: str, query: bytes = b"") -> Endpoint:
        """See `base.Dialect`."""
        found = super().endpoint(method, path, query)
        if self._streams_usage or found.name not in STREAM_OPTIONS_FORMS:
            return found
        return msgspec.structs.replace(found, streams_usage=False)

    def ask(self, endpoint: Endpoint, body: bytes, content_type: bytes = b"") -> Ask:
        """See `base.Dialect`."""
        ask = super().ask(endpoint, body, content_type)
        return ask if endpoint.streams_usage else unasked(endpoint, ask, body)

    def reach(self, endpoint: Endpoint, body: bytes, ask: Ask) -> Reach:
        """See `base.Dialect`."""
        fee = FEES.get(self.name)
        if fee is not None:
            return Reach(unbounded=f"{self.name} {fee}", field="model")
        tally = Tally()
        refuse_members(tally, request.members(body), SEARCHES)
        found = tally.reach()
        return found if found.unbounded else super().reach(endpoint, body, ask)
