"""Recorded provider traffic, to be answered again byte for byte.

The folder is named by `XPROXY_RECORDINGS` (by default `../shared/recordings` beside the checkout);
it holds `openai.jsonl` and `anthropic.jsonl`, one exchange a line. Without it there are none.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parent.parent.parent


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange. JSON bodies are kept as the bytes of the file."""

    source: str
    provider: str
    method: str
    path: str
    query: str = ""
    request: Any = None
    status: int
    content_type: str
    body_json: msgspec.Raw = msgspec.Raw(b"")
    body_text: str = ""
    index: int = -1

    @property
    def name(self) -> str:
        """`openai:12`: how a request asks for it."""
        return f"{self.provider}:{self.index}"

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return bytes(self.body_json) or self.body_text.encode()

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.content_type.startswith("text/event-stream")


def folder() -> Path | None:
    """Where the recordings are, if they are there."""
    path = Path(os.environ.get("XPROXY_RECORDINGS") or ROOT / ".." / "shared" / "recordings")
    return path if path.is_dir() else None


@cache
def load(provider: str) -> tuple[Recording, ...]:
    """All recordings of a provider, in the file's order; none without the folder."""
    place = folder()
    if place is None or not (place / f"{provider}.jsonl").is_file():
        return ()
    decode = msgspec.json.Decoder(Recording).decode
    lines = (place / f"{provider}.jsonl").read_bytes().splitlines()
    found = (decode(line) for line in lines)
    return tuple(msgspec.structs.replace(one, index=index) for index, one in enumerate(found))


def find(name: str) -> Recording:
    """The recording `provider:index`; raises LookupError."""
    provider, _, index = name.partition(":")
    if provider not in ("openai", "anthropic") or not index.isdigit():
        raise LookupError(f"{name!r} is not provider:index")
    try:
        return load(provider)[int(index)]
    except IndexError:
        raise LookupError(f"there is no recording {name}") from None


def events(body: bytes) -> list[bytes]:
    """A stream's body cut after each blank line; joined again it is the same."""
    parts = body.split(b"\n\n")
    pieces = [part + b"\n\n" for part in parts[:-1]]
    return [*pieces, parts[-1]] if parts[-1] else pieces


def usage(recording: Recording) -> tuple[str | None, dict[str, Any] | None, str | None]:
    """(model, usage, service tier) that a recorded answer reports; a stream's usage is merged."""
    if recording.streamed:
        lines = recording.body_text.splitlines()
        found = [msgspec.json.decode(line[6:]) for line in lines if line.startswith("data: {")]
    else:
        body = msgspec.json.decode(recording.body) if recording.body_json else None
        found = [body] if isinstance(body, dict) else []
    model: str | None = None
    merged: dict[str, Any] = {}
    tier: str | None = None
    for event in found:
        for holder in (event, event.get("message"), event.get("response")):
            if isinstance(holder, dict):
                model = holder.get("model") or model
                tier = holder.get("service_tier") or tier
                merged.update(holder.get("usage") or {})
    return model, merged or None, tier
