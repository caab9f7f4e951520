"""Every recording, replayed once through the running service."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.acceptance.tenant import PAYI
from tests.standin.recordings import Recording, load
from tests.standin.service import Service

CHAT = "/v1/chat/completions"
METERED = {
    "openai": (CHAT, "/v1/responses", "/v1/responses/compact", "/v1/embeddings"),
    "anthropic": ("/v1/messages",),
}
"""The paths whose POSTs cost something."""
SPLITS = (1, 7, 64)
"""Sizes of the pieces in which the provider hands out some of the streams, in bytes."""
SPLIT_EACH = 3
"""How many streams of a provider are handed out in each size."""
LANDING_S = 20.0


@dataclass(frozen=True)
class Variant:
    """One way to replay a recording."""

    recording: Recording
    asked: bool = True
    """Whether the client asks for the usage chunk, as all recorded clients did."""
    split: int | None = None

    @property
    def metered(self) -> bool:
        """Whether the call costs something."""
        one = self.recording
        return one.method == "POST" and one.path in METERED[one.provider]

    @property
    def pending(self) -> bool:
        """Whether the answer only says that it will be made in the background."""
        queued = b'"status":"queued"' in self.recording.body.replace(b": ", b":")
        return queued and self.metered and not self.recording.streamed

    @property
    def name(self) -> str:
        """`openai:4`, `openai:4-unasked`, `openai:4-cut7`."""
        cut = f"-cut{self.split}" if self.split else ""
        return self.recording.name + ("" if self.asked else "-unasked") + cut


@dataclass(frozen=True)
class Replay:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """Our name of the call."""
        return self.headers["xproxy-request-id"]


def variants() -> list[Variant]:
    """Every recording, each chat stream also unasked, some streams of each endpoint cut."""
    found = [Variant(one) for provider in METERED for one in load(provider)]
    for provider, paths in METERED.items():
        for path in paths:
            streams = [one for one in load(provider) if one.path == path and one.streamed]
            unasked = path == CHAT
            found += [Variant(one, asked=False) for one in streams if unasked]
            for at, size in enumerate(SPLITS):
                chosen = streams[at * SPLIT_EACH :][:SPLIT_EACH]
                found += [Variant(one, split=size) for one in chosen]
                found += [Variant(one, asked=False, split=size) for one in chosen if unasked]
    return found


def replay(service: Service, key: str, variant: Variant, route: str = PAYI) -> Replay:
    """One recording, asked for as its client did, answered by the provider stand-in."""
    recording = variant.recording
    content = recording.request
    if isinstance(content, dict):
        asked = {k: v for k, v in content.items() if variant.asked or k != "stream_options"}
        content = json.dumps(asked, separators=(",", ":"), ensure_ascii=False).encode()
    told: dict[str, Any] = {"recording": recording.name}
    if variant.split:
        told["split"] = variant.split
    query = f"?{recording.query}" if recording.query else ""
    response = service.http.request(
        recording.method,
        f"{route}/{recording.provider}{recording.path}{query}",
        content=content,
        headers={
            "xProxy-Api-Key": key,
            "content-type": "application/json",
            "x-standin": json.dumps(told),
        },
    )
    return Replay(response.status_code, dict(response.headers), response.content)


def pages(
    service: Service, path: str, key: str | None = None, **query: str | int
) -> list[dict[str, Any]]:
    """The items of all pages of a listing."""
    items: list[dict[str, Any]] = []
    while True:
        page = service.manage("GET", path, key=key, **query)
        items += page["items"]
        if not page.get("cursor"):
            return items
        query["cursor"] = page["cursor"]


def rows_of(service: Service, key: str, request_ids: set[str]) -> dict[str, dict[str, Any]]:
    """The usage rows of calls, by request id, once all of them have landed."""
    deadline = time.monotonic() + LANDING_S
    while True:
        rows = {row["request_id"]: row for row in pages(service, "usage", key, page_size=200)}
        missing = request_ids - rows.keys()
        if not missing:
            return rows
        assert time.monotonic() < deadline, f"{len(missing)} rows did not land"
        time.sleep(0.2)


def events(stream: bytes) -> list[bytes]:
    """A stream's events, each with the blank line that ends it."""
    parts = stream.split(b"\n\n")
    return [part + b"\n\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def data_of(event: bytes) -> dict[str, Any]:
    """The JSON object of an event; empty where it has none."""
    lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
    try:
        value = json.loads(b"\n".join(lines), parse_float=Decimal)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def without_result(text: bytes) -> tuple[bytes, dict[str, Any]]:
    """A JSON text less its last member, which is `xproxy_result`; and that member's value."""
    mark = b',"xproxy_result":'
    start = text.index(mark)
    value, end = json.JSONDecoder(parse_float=Decimal).raw_decode(
        text[start + len(mark) :].decode()
    )
    rest = text[start + len(mark) :].decode()[end:].encode()
    assert rest.strip(b" \r\n") == b"}", "members of the provider's own come after ours"
    return text[:start] + rest, value
