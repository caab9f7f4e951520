"""The tools of a responses request and how they are chosen, as Anthropic's."""

from __future__ import annotations

from msgspec import UNSET, Raw

from metering.translate import reading
from metering.translate.anthropic.chat_tools import WEB_SEARCH, Tools, WebSearch
from metering.translate.reading import is_object, missing, wrong

_SEARCHES = frozenset(
    {
        *("web_search", "web_search_2025_08_26", "web_search_preview"),
        "web_search_preview_2025_03_11",
    }
)
_SEARCH = frozenset({"type", "user_location", "filters"})
_FILTERS = frozenset({"allowed_domains", "blocked_domains"})
_PLAIN_SEARCH = {"search_context_size": Raw(b'"medium"'), "external_web_access": Raw(b"true")}
_NAMED_SEARCH = {"name": Raw(b'"web_search"')}
_PLAIN_FUNCTION = {"defer_loading": Raw(b"false"), "allowed_callers": Raw(b'["direct"]')}
"""Members that cannot be carried, and what says nothing there."""
_POSSIBLE = "'function' or 'web_search': tools of other kinds are not to be had with this model"
_CHOICES = (
    "'auto', 'none', 'required', {'type': 'function', 'name': ...} or of type 'allowed_tools' or"
    " 'web_search'"
)


class ResponsesTools(Tools):
    """See `Tools`: functions stand flat in their tools here, and a web search is one of them."""

    choices = _CHOICES

    def _add(self, tool: dict[str, Raw], given: Raw, path: str) -> None:  # noqa: ARG002
        if "type" not in tool:
            raise missing(f"{path}.type", f"it is {_POSSIBLE}")
        kind = reading.text(tool["type"], f"{path}.type")
        if kind in _SEARCHES:
            self._put(WEB_SEARCH, self._searching(tool, path), path)
        elif kind == "function":
            function = {name: it for name, it in tool.items() if name != "type"}
            self._leave(function, _PLAIN_FUNCTION, path)
            self._function(function, {}, path)
        else:
            raise wrong(f"{path}.type", _POSSIBLE)

    def _leave(self, tool: dict[str, Raw], plain: dict[str, Raw], path: str) -> None:
        """Leaves out what cannot be carried."""
        for name, nothing in plain.items():
            if name in tool and tool.pop(name) != nothing:
                self._lost.drop(f"{path}.{name}")

    def _searching(self, tool: dict[str, Raw], path: str) -> WebSearch:
        self._leave(tool, _PLAIN_SEARCH, path)
        self._lost.unknown(tool, _SEARCH, path)
        made = self._search(tool, path)
        if "filters" in tool:
            filters = reading.members(tool["filters"], f"{path}.filters")
            self._lost.unknown(filters, _FILTERS, f"{path}.filters")
            made.allowed_domains = filters.get("allowed_domains", UNSET)
            made.blocked_domains = filters.get("blocked_domains", UNSET)
        return made

    def _choose(self, raw: Raw, path: str) -> None:
        if not is_object(raw):
            super()._choose(raw, path)
            return
        choice = reading.members(raw, path)
        kind = reading.text(choice["type"], f"{path}.type") if "type" in choice else ""
        if kind == "allowed_tools":
            self._allow(choice, path)
        elif kind == "function":
            self._force(choice, path)
        elif kind in _SEARCHES:
            self._force(_NAMED_SEARCH, path)
        else:
            raise wrong(path, _CHOICES)

    def _called(self, tool: dict[str, Raw], path: str) -> str:
        kind = reading.text(tool["type"], f"{path}.type") if "type" in tool else ""
        return WEB_SEARCH if kind in _SEARCHES else super()._called(tool, path)
