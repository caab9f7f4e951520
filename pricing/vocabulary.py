"""The vocabulary: every billable unit, its dimensions, its name on the wire, what a price buys.

A new unit is one line of a table; what contains what follows from the dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """A billable unit: its dimensions and how it is named and priced."""

    name: str
    wire: str
    """The name in the management API and in `units` of ingested events: `text_cache_read.input`."""
    dimensions: frozenset[tuple[str, str]]
    per: int = 1_000_000
    """How many of them a catalogue price buys: a million tokens, a thousand calls, an image."""
    leaf: str = ""
    """What the rest is called that no more specific count explains; if empty, as the unit."""
    optional: bool = False
    """A fee that exists only where a price is listed: without one it is free, not unpriced."""

    @property
    def direction(self) -> str:
        """`input` or `output`: which of the two sums of a cost this unit belongs to."""
        return dict(self.dimensions)["direction"]

    @property
    def family(self) -> str:
        """What is counted: `tokens`, `images`, `tool_calls`."""
        return dict(self.dimensions)["family"]

    @property
    def tokens(self) -> bool:
        """Whether this unit counts tokens (and so moves the context tier)."""
        return self.family == "tokens"

    def contains(self, other: Unit) -> bool:
        """Whether every `other` is also one of these."""
        return self.dimensions < other.dimensions


def _read(name: str, wire: str, leaf: str = "", **dimensions: str) -> Unit:
    """Tokens that a model is given."""
    items = {"family": "tokens", "direction": "input", **dimensions}
    return Unit(name, f"{wire}.input", frozenset(items.items()), leaf=leaf)


def _made(name: str, wire: str, leaf: str = "", **dimensions: str) -> Unit:
    """Tokens that a model makes."""
    items = {"family": "tokens", "direction": "output", **dimensions}
    return Unit(name, f"{wire}.output", frozenset(items.items()), leaf=leaf)


def _tool(kind: str, *, optional: bool = False) -> Unit:
    """A use of a tool. Fees have a direction so that a cost's two sums always add up to it."""
    items = {"family": "tool_calls", "direction": "output", "kind": kind}
    wire = f"{kind}_request.output"
    return Unit(kind, wire, frozenset(items.items()), 1_000, optional=optional)


def _guardrail(policy: str) -> Unit:
    """A text unit that a policy of a Bedrock guardrail looked at."""
    items = {"family": "guardrails", "direction": "input", "kind": policy}
    name = f"guardrail_{policy}"
    return Unit(name, f"{name}.input", frozenset(items.items()), 1_000, optional=True)


def _counted(name: str, wire: str, per: int, *, optional: bool = False, **dimensions: str) -> Unit:
    return Unit(name, wire, frozenset(dimensions.items()), per, optional=optional)


def _image(**dimensions: str) -> Unit:
    """A generated image of a size, and of a quality where that has a price."""
    name = "_".join(("image", *dimensions.values()))
    items = {"family": "images", "direction": "output", **dimensions}
    return Unit(name, f"{name}.output", frozenset(items.items()), per=1)


def _video(resolution: str) -> Unit:
    """A second of generated video of a resolution."""
    items = {"family": "durations", "direction": "output", "modality": "video", "size": resolution}
    name = f"video_seconds_{resolution}"
    return Unit(name, f"video_{resolution}.output", frozenset(items.items()), per=1)


def _container(memory: str) -> Unit:
    """A session of a container with so much memory, in which OpenAI's code interpreter runs."""
    items = {"family": "containers", "direction": "output", "kind": memory}
    name = f"container_{memory}"
    return Unit(name, f"{name}_session.output", frozenset(items.items()), per=1)


# Order matters in one place: of several equally near ancestors, the first lends its price.
_TOKENS = (
    _read("input", "text", "input_text"),
    _read("input_text", "text", modality="text"),
    _read("input_audio", "audio", modality="audio"),
    _read("input_image", "vision", modality="image"),
    _read("input_video", "video", modality="video"),
    _read("input_document", "document", modality="document"),
    _read("input_tool", "tool", kind="tool"),
    _read("cache_read", "text_cache_read", kind="cache_read"),
    _read("cache_read_audio", "audio_cache_read", modality="audio", kind="cache_read"),
    _read("cache_read_image", "vision_cache_read", modality="image", kind="cache_read"),
    _read("cache_read_video", "video_cache_read", modality="video", kind="cache_read"),
    _read("cache_read_document", "document_cache_read", modality="document", kind="cache_read"),
    _read("cache_write", "text_cache_write", kind="cache_write"),
    _read("cache_write_5m", "text_cache_write", kind="cache_write", ttl="5m"),
    _read("cache_write_1h", "text_cache_write_1h", kind="cache_write", ttl="1h"),
    _read("cache_write_12h", "text_cache_write_12h", kind="cache_write", ttl="12h"),
    _read("cache_write_audio", "audio_cache_write", modality="audio", kind="cache_write"),
    _made("output", "text", "output_text"),
    _made("output_text", "text", modality="text"),
    _made("output_audio", "audio", modality="audio"),
    _made("output_image", "vision", modality="image"),
    _made("output_video", "video_token", modality="video"),
    _made("reasoning", "reasoning", kind="reasoning"),
    _made("citation", "citation", kind="citation"),
)

# Anthropic bills neither pages fetched nor code run by the use. Fetching a page costs the tokens of
# the page. Code runs in containers that are billed by the hour beyond a monthly allowance, and an
# answer says how often one was used, not for how long: it has a price only where one is configured.
# https://platform.claude.com/docs/en/about-claude/pricing, "Specific tool pricing"
_TOOLS = (
    _tool("web_search"),
    _tool("file_search"),
    _tool("maps_search"),
    _tool("social_search"),
    _tool("web_fetch", optional=True),
    _tool("code_execution", optional=True),
    *(_container(memory) for memory in ("1g", "4g", "16g", "64g")),
    *(
        _guardrail(policy)
        for policy in (
            "topic",
            "content",
            "content_image",
            "word_free",
            "automated_reasoning",
            "sensitive_information",
            "sensitive_information_free",
            "contextual_grounding",
        )
    ),
)

# A size without a price is unpriced: only what contains it lends its price, `images` where a model
# has one price for all. Pay-i's `image` is one image, so the tokens of images that a model makes
# are `vision`, as those it is shown are; its `video` is one second.
_MEDIA = (
    _counted("images", "image.output", 1, family="images", direction="output"),
    *(_image(size=size) for size in ("256x256", "512x512", "1024x1024")),
    *(
        _image(quality=quality, size=size)
        for quality in ("standard", "hd")
        for size in ("1024x1024", "1024x1792", "1792x1024")
    ),
    _counted(
        "audio_seconds",
        "audio_second.input",
        3_600,
        family="durations",
        direction="input",
        modality="audio",
    ),
    _counted(
        "video_seconds",
        "video.output",
        1,
        family="durations",
        direction="output",
        modality="video",
    ),
    *(_video(resolution) for resolution in ("480p", "720p", "768p", "1080p", "2k", "4k")),
    _counted(
        "input_characters",
        "text_character.input",
        1_000_000,
        family="characters",
        direction="input",
        modality="text",
    ),
    _counted("pages", "page.input", 1_000, family="pages", direction="input"),
    _counted(
        "pages_annotated",
        "page_annotated.input",
        1_000,
        family="pages",
        direction="input",
        kind="annotated",
    ),
    _counted("text_messages", "text_message.input", 1_000, family="messages", direction="input"),
    _counted("rerank_searches", "rerank.input", 1_000, family="reranks", direction="input"),
    _counted(
        "requests", "request.input", 1_000, optional=True, family="requests", direction="input"
    ),
)

VOCABULARY = (*_TOKENS, *_TOOLS, *_MEDIA)
"""Every unit there is."""
