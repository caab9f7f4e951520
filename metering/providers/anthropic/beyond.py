"""What a message's request holds beyond its text, in Anthropic's terms."""

from __future__ import annotations

from typing import Any

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
)

IMAGE_TOKENS = 5_000
"""The most that an image comes to, whatever its size: 4,784 at the high resolution of the newer
models (2,576 pixels), 1,600 before. Larger ones are scaled down."""
PASSES = 11
"""How often at most a prompt is read where Anthropic runs tools: after 10 rounds it stops with
`pause_turn`."""
TEXT = frozenset(
    (
        *("", "text", "thinking", "redacted_thinking", "search_result", "content"),
        *("tool_use", "tool_result", "tool_reference", "tool_addition", "tool_removal"),
        *("server_tool_use", "mcp_tool_use", "mcp_tool_result", "compaction"),
        *("tool_search_tool_result", "tool_search_tool_search_result"),
        *("base64", "url", "file"),  # sources, which count as what they are the source of
    )
)
"""Parts that have at most a token a byte. Of thinking, a signature holds it encrypted: the densest
that was recorded has 4.8 bytes a token."""
OWN_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
"""Tools that the caller runs, whose description is Anthropic's."""
RUN_TOOLS = ("code_execution_", "mcp_toolset")
"""Tools that Anthropic runs for nothing; what they bring is in the window."""
FEES = {"web_search_": "web_search", "web_fetch_": "web_fetch"}
"""Tools with a fee for each use."""
NO_BOUND = {"fallbacks": "may have another model answer, at its prices: leave it out"}


def reach(body: bytes) -> Reach:
    """What a request to `/v1/messages` may come to beyond its bytes."""
    fields = request.members(body)
    tally = Tally()
    refuse_members(tally, fields, NO_BOUND)
    try:
        tools = member(fields, "tools") or []
        if tools or "mcp_servers" in fields or "output_config" in fields:
            tally.adds(ENVELOPE_TOKENS)
        for tool in tools if isinstance(tools, list) else ():
            _tool(tally, tool if isinstance(tool, dict) else {"type": "?"})
        if "mcp_servers" in fields:
            tally.is_unknown()
            tally.runs(PASSES)
        if "context_management" in fields:
            tally.runs(2 * PASSES if tools or "mcp_servers" in fields else 2)
        _budget(tally, member(fields, "thinking"), request.count(fields, "max_tokens"))
        for name in ("system", "messages"):
            for part in parts(member(fields, name)):
                _part(tally, part)
    except Unreadable as fault:
        tally.has_no_bound(str(fault), "cannot be read: send it as UTF-8, nested less deep")
    return tally.reach()


def _budget(tally: Tally, thinking: Any, max_tokens: int | None) -> None:
    """A budget for thinking between tools may be more than the cap, and is then not part of it."""
    budget = count(thinking, "budget_tokens") if isinstance(thinking, dict) else None
    if budget is not None and budget >= (max_tokens or 0):
        tally.writes(budget)


def _part(tally: Tally, part: dict[str, Any]) -> None:
    of = kind(part)
    if of == "image":
        source = part.get("source")
        data = source.get("data") if isinstance(source, dict) else None
        tally.adds(IMAGE_TOKENS, len(data) if isinstance(data, str) and data.isascii() else 0)
    elif of == "tool_addition" and isinstance(tool := part.get("tool"), dict):
        if kind(tool) != "tool_reference":
            _tool(tally, tool)
    elif of == "document":
        source = part.get("source")
        if not isinstance(source, dict) or kind(source) not in ("text", "content"):
            tally.is_unknown()
    elif of not in TEXT:
        tally.is_unknown()


def _tool(tally: Tally, tool: dict[str, Any]) -> None:
    of = kind(tool)
    if of in ("", "custom"):
        return
    tally.adds(TYPED_TOOL_TOKENS)
    fee = next((unit for prefix, unit in FEES.items() if of.startswith(prefix)), None)
    if fee is not None:
        uses = count(tool, "max_uses")
        if uses is None:
            tally.has_no_bound("tools", f"has {of} without a bound: set its max_uses")
        tally.is_unknown()
        tally.runs(PASSES, **{fee: uses or 0})
    elif of.startswith(RUN_TOOLS):
        tally.is_unknown()
        tally.runs(PASSES, code_execution=1)
    elif of.startswith("tool_search_tool_"):  # what it finds is in the request
        tally.runs(PASSES)
    elif of.startswith("advisor_"):
        _advisor(tally, of, tool)
    elif not of.startswith(OWN_TOOLS):
        tally.has_no_bound("tools", f"has {of}, whose cost is not known here: leave it out")


def _advisor(tally: Tally, of: str, tool: dict[str, Any]) -> None:
    """A model that is asked during the answer. Each time it reads all that was said so far, and
    writes at most `max_tokens`, thinking included; then the call's own model goes on."""
    model, uses = tool.get("model"), count(tool, "max_uses")
    if uses is None or not isinstance(model, str):
        tally.has_no_bound("tools", f"has {of} without a bound: set its model and max_uses")
        return
    tally.is_unknown()
    tally.runs(PASSES + uses)
    tally.asks(model, uses, count(tool, "max_tokens"))
