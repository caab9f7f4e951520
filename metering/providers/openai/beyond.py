"""What requests hold beyond their text, in OpenAI's terms: chats, responses, their items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Raw

from metering.core.reach import Reach
from metering.providers import request
from metering.providers.beyond import (
    ENVELOPE_TOKENS,
    TYPED_TOOL_TOKENS,
    Tally,
    Unreadable,
    count,
    kind,
    member,
    parts,
    refuse_members,
    tools_in,
)
from metering.providers.openai.tools import MEMORY, session

IMAGE_TOKENS = (
    ("gpt-4o-mini", 50_000),
    ("gpt-4.1-mini", 4_000),
    ("gpt-4.1-nano", 4_000),
    ("gpt-5-mini", 4_000),
    ("gpt-5-nano", 4_000),
    ("o4-mini", 4_000),
    ("gpt-4o", 1_500),
    ("gpt-4.1", 1_500),
    ("gpt-4.5", 1_500),
    ("gpt-5-chat", 1_500),
    ("gpt-5-pro", 1_500),
    ("gpt-5-2025", 1_500),
    ("o1", 1_500),
    ("o3", 1_500),
)
"""By model, the most that an image comes to at high detail: 8 tiles at 85 + 170 tokens each (2,833
+ 5,667 for gpt-4o-mini), or 1,536 patches times at most 2.46. Of models since then, which scale
images down less or not at all, the window is the bound."""
TEXT = frozenset(
    (
        *("", "message", "text", "input_text", "output_text", "refusal", "input_audio"),
        *("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"),
        *("computer_call", "computer_call_output", "local_shell_call", "local_shell_call_output"),
        *("shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output"),
        *("tool_search_call", "tool_search_output", "additional_tools"),
        *("mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response"),
    )
)
"""Parts and items that have at most a token a byte. What is encrypted, or kept by OpenAI and named
by its id, may be more than that."""
IMAGES = frozenset({"image_url", "input_image", "computer_screenshot"})
PLAIN_TOOLS = frozenset({"", "function", "custom", "namespace"})
OWN_TOOLS = ("computer", "local_shell", "apply_patch")
"""Tools that the caller runs, whose description is OpenAI's."""
RUN_TOOLS = {"mcp": "", "tool_search": "", "file_search": "file_search"}
SEARCHES = ("web_search",)
CODE = frozenset({"code_interpreter", "shell"})
STATE = "is what OpenAI keeps, of which the request does not say how much: send it as input"
NO_BOUND = {
    "previous_response_id": STATE,
    "conversation": STATE,
    "prompt": "is stored by OpenAI and may hold anything, tools too: send instructions and input",
    "context_management": "may have the context read and written anew any number of times: "
    "leave it out",
}


def chat(body: bytes, model: str) -> Reach:
    """What a request to `/v1/chat/completions` may come to beyond its bytes."""
    fields = request.members(body)
    tally = Tally()
    try:
        _shape(tally, fields, "response_format", "functions")
        _tools(tally, member(fields, "tools"), None)
        for message in parts(member(fields, "messages")):
            _part(tally, message, model)
            if message.get("role") == "assistant" and isinstance(message.get("audio"), dict):
                tally.is_unknown()  # spoken before, and kept by OpenAI
        if "web_search_options" in fields:
            tally.is_unknown()
            tally.runs(2, web_search=1)
        if "prediction" in fields:  # tokens that turn out wrong are billed as output
            tally.writes(len(bytes(fields["prediction"])))
    except Unreadable as fault:
        tally.has_no_bound(str(fault), "cannot be read: send it as UTF-8, nested less deep")
    return tally.reach()


def response(body: bytes, model: str) -> Reach:
    """What a request to `/v1/responses`, and its like, may come to beyond its bytes."""
    fields = request.members(body)
    tally = Tally()
    refuse_members(tally, fields, NO_BOUND)
    try:
        _shape(tally, fields, "text")
        _effort(tally, member(fields, "reasoning"))
        calls = count({"max": member(fields, "max_tool_calls")}, "max")
        _tools(tally, member(fields, "tools"), calls)
        for item in parts(member(fields, "input")):
            _part(tally, item, model)
            _tools(tally, item.get("tools"), calls)
    except Unreadable as fault:
        tally.has_no_bound(str(fault), "cannot be read: send it as UTF-8, nested less deep")
    return tally.reach()


def image_tokens(model: str) -> int | None:
    """The most that an image comes to; None: as much as the window holds."""
    name = model.removeprefix("ft:")
    if name == "gpt-5":
        return 1_500
    return next((most for prefix, most in IMAGE_TOKENS if name.startswith(prefix)), None)


def _shape(tally: Tally, fields: Mapping[str, Raw], *names: str) -> None:
    if any(name in fields for name in (*names, "tools")):
        tally.adds(ENVELOPE_TOKENS)


def _effort(tally: Tally, reasoning: Any) -> None:
    """A mode other than the standard one has the model at work several times, unseen: a recorded
    prompt of 218 bytes was billed as 1,549 tokens."""
    mode = reasoning.get("mode") if isinstance(reasoning, dict) else None
    if mode not in (None, "standard"):
        tally.has_no_bound("reasoning", "has a mode that answers more than once: leave mode out")


def _part(tally: Tally, part: dict[str, Any], model: str) -> None:
    of = kind(part)
    if of in TEXT:
        return
    most = image_tokens(model) if of in IMAGES else None
    if most is None:
        tally.is_unknown()
        return
    url = part.get("image_url")
    if isinstance(url, dict):
        url = url.get("url")
    inline = isinstance(url, str) and url.startswith("data:") and url.isascii()
    tally.adds(most, len(str(url)) if inline else 0)


def _tools(tally: Tally, given: Any, calls: int | None) -> None:
    """`calls` is how many of the tools that OpenAI runs may be called in all."""
    for tool in tools_in(given) if isinstance(given, Iterable) else ():
        of = kind(tool)
        if of in PLAIN_TOOLS:
            continue
        tally.adds(TYPED_TOOL_TOKENS)
        if not of.startswith(OWN_TOOLS) and not _is_own(of, tool):
            _run(tally, of, tool, calls)


def _is_own(of: str, tool: dict[str, Any]) -> bool:
    """Whether the caller runs a tool that OpenAI might."""
    place = tool.get("environment")
    return (of == "tool_search" and tool.get("execution") == "client") or (
        of == "shell" and isinstance(place, dict) and kind(place) == "local"
    )


def _run(tally: Tally, of: str, tool: dict[str, Any], calls: int | None) -> None:
    if of.startswith(SEARCHES):
        fees = {"web_search": 1}
    elif of in CODE:
        place = tool.get("container") or tool.get("environment")
        memory = place.get("memory_limit") if isinstance(place, dict) else None
        fees = session(memory if isinstance(memory, str) else MEMORY)
    elif of in RUN_TOOLS:
        fees = {RUN_TOOLS[of]: 1} if RUN_TOOLS[of] else {}
    else:
        tally.has_no_bound("tools", f"has {of}, whose cost is not known here: leave it out")
        return
    if calls is None:
        tally.has_no_bound("tools", f"has {of} without a bound: set max_tool_calls")
    tally.is_unknown()
    tally.runs((calls or 0) + 1, **dict.fromkeys(fees, calls or 0))
