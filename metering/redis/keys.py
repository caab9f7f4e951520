"""The names of keys. Everything of an application carries one hash tag, so that scripts run on
Redis Cluster: `{sNN}`, NN = crc32(application id) modulo 64."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from metering.core.ids import SHARDS, shard

GENERATION = "xproxy:generation"
"""Which generation of Redis's memory is whole, and of which server: `id:server`."""
RECOVERY = "xproxy:recovery"
"""Which one is being made whole, in the same form."""
CHANGED = "xproxy:changed"
"""The pub/sub channel that says which cached names are stale."""
EVERYTHING = "*"
"""The topic that says so of all of them."""


def definition(topic: str) -> str:
    """What all workers share of a definition, by the topic that says that it has changed."""
    return f"xproxy:d:{topic}"


def failures(who: str) -> str:
    """How often somebody has lately shown a key that is none."""
    return f"xproxy:f:{who}"


@lru_cache(maxsize=4096)
def share(application_id: str) -> Keys:
    """The keys of an application."""
    return Keys(application_id)


def outboxes() -> list[str]:
    """The outbox streams of all shards."""
    return [f"{{s{number:02d}}}:outbox" for number in range(SHARDS)]


def generations() -> list[str]:
    """The generation, as scripts of each shard can see it."""
    return [f"{{s{number:02d}}}:generation" for number in range(SHARDS)]


def generation_beside(outbox: str) -> str:
    """The generation as scripts of an outbox's shard see it."""
    return outbox.replace(":outbox", ":generation")


def handed_in(generation: str) -> str:
    """The set of those who have said what they know of calls, for a generation."""
    return f"{RECOVERY}:{generation}"


def holds() -> list[str]:
    """The hold sets of all shards."""
    return [f"{{s{number:02d}}}:holds" for number in range(SHARDS)]


class Keys:
    """The keys of one application; `outbox`, `holds` and `generation` are shared by its shard."""

    __slots__ = (
        "application_id",
        "generation",
        "holds",
        "limit_prefix",
        "outbox",
        "rate_prefix",
        "record_prefix",
        "shared",
        "tag",
    )

    def __init__(self, application_id: str) -> None:
        self.application_id = application_id
        self.tag = f"{{s{shard(application_id):02d}}}"
        self.outbox = f"{self.tag}:outbox"
        self.holds = f"{self.tag}:holds"
        self.generation = f"{self.tag}:generation"
        self.shared = (self.holds, self.outbox, self.generation)
        self.limit_prefix = f"{self.tag}:l:{application_id}:"
        self.record_prefix = f"{self.tag}:r:{application_id}:"
        self.rate_prefix = f"{self.tag}:q:{application_id}:"

    def limit(self, limit_id: str) -> str:
        """The counters of a limit; its live holds are at the same name with `;h`, the parts of its
        rolling window with `;w`: no id has a semicolon."""
        return self.limit_prefix + limit_id

    def limits(self, limit_ids: Iterable[str]) -> list[str]:
        """The same for several."""
        prefix = self.limit_prefix
        return [prefix + limit_id for limit_id in limit_ids]

    def record(self, request_id: str, attempt: int) -> str:
        """The hold, mark and result of one attempt."""
        return f"{self.record_prefix}{request_id}:{attempt}"

    def replay(self, digest: str) -> str:
        """Whose an idempotency key is, and what its call was answered."""
        return f"{self.tag}:i:{self.application_id}:{digest}"

    def index(self, category: str, provider_id: str) -> str:
        """Where the provider's id leads to ours."""
        # with its length, as either may have colons: a category is whatever a report says
        return f"{self.tag}:p:{self.application_id}:{len(category)}:{category}:{provider_id}"


def parse_record(record: str) -> tuple[str, str, int]:
    """(application, request id, attempt) of a record's key."""
    _, _, application_id, request_id, attempt = record.split(":")
    return application_id, request_id, int(attempt)
