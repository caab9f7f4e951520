"""The OpenAPI document, made right where the framework cannot know, and a page that shows it.

Every fault is an ApiError, but those of LiteLLM's routes and of Portkey's, which are their own, and
of the list of models, which is OpenAI's; many reported calls are a list that is read one by one.
The page is plain HTML: it asks nobody for anything, so it works without a network.
"""

import copy
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from litestar import Request
from litestar.enums import MediaType
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

from metering.api.litellm import grammar as litellm
from metering.api.portkey import MODELS
from metering.api.portkey import grammar as portkey

METHODS = ("get", "post", "put", "patch", "delete")
PUBLIC = ("/health/",)
"""What begins so needs no key."""
_REF = "#/components/schemas/"
_TEXT: dict[str, Any] = {"type": "string"}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": _TEXT, "message": _TEXT},
}
_ERROR = {
    "ApiError": {
        "type": "object",
        "title": "ApiError",
        "required": ["message", "statusCode", "xproxy_error"],
        "properties": {
            "message": _TEXT,
            "statusCode": {"type": "integer"},
            "xproxy_error": _PROBLEM,
        },
    },
    "LiteLLMError": {
        "type": "object",
        "title": "LiteLLMError",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    **dict.fromkeys(("message", "type", "code"), _TEXT),
                    "param": {"type": ["string", "null"]},
                },
            }
        },
    },
    "OpenAIError": {
        "type": "object",
        "title": "OpenAIError",
        "required": ["error", "xproxy_error", "xproxy_result"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["type", "message", "param", "code"],
                "properties": {
                    **dict.fromkeys(("type", "message", "code"), _TEXT),
                    "param": {"type": ["string", "null"]},
                },
            },
            "xproxy_error": _PROBLEM,
            "xproxy_result": {
                "type": "object",
                "required": ["request_id"],
                "properties": {"request_id": _TEXT},
            },
        },
    },
    "PortkeyError": {
        "type": "object",
        "title": "PortkeyError",
        "required": ["success", "data"],
        "properties": {
            "success": {"const": False},
            "data": {
                "type": "object",
                "required": ["message", "errorCode", "code", "request_id"],
                "properties": dict.fromkeys(
                    ("message", "errorCode", "code", "request_id", "field"), _TEXT
                ),
            },
        },
    },
}
_MANY = {
    "required": False,
    "content": {
        "application/json": {"schema": {"type": "array", "items": {"$ref": f"{_REF}IngestEvent"}}}
    },
}


def _fault(shape: str) -> dict[str, Any]:
    return {
        "description": "What went wrong: `code` is the contract, `message` is for people.",
        "content": {"application/json": {"schema": {"$ref": _REF + shape}}},
    }


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h2{margin-top:2.5rem;border-bottom:1px solid #ccc}summary{cursor:pointer}"
    "code,pre{font:13px/1.45 ui-monospace,monospace}details{margin:.4rem 0}"
    ".m{display:inline-block;width:4.5rem;font-weight:bold}dt{font-family:ui-monospace,monospace}"
)


def documented(schema: dict[str, Any]) -> dict[str, Any]:
    """The framework's document with our errors, and without what it says of its own."""
    found = copy.deepcopy(schema)
    found["components"]["schemas"].update(_ERROR)
    for path, method, operation in operations(found):
        answers = operation["responses"]
        operation["responses"] = {
            **{status: it for status, it in answers.items() if status.startswith("2")},
            "default": _fault(_shape_of(path)),
        }
        body = operation.get("requestBody")
        if body:  # none at all is an empty object
            shape = _content(body).get("$ref", "").removeprefix(_REF)
            body["required"] = bool(found["components"]["schemas"].get(shape, {}).get("required"))
        if path.startswith(PUBLIC):
            operation["security"] = []
        if path.startswith("/api/v1/ingest/bulk") and method == "post":
            operation["requestBody"] = _MANY
    return found


def _shape_of(path: str) -> str:
    """Which shape the faults of a route have."""
    if path == MODELS:
        return "OpenAIError"
    if portkey.owns(path):
        return "PortkeyError"
    return "LiteLLMError" if litellm.owns(path) else "ApiError"


def operations(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, method, operation) of every route, in order of paths."""
    for path, item in sorted(schema["paths"].items()):
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


class Document(JsonRenderPlugin):
    """The document, as JSON."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """See OpenAPIRenderPlugin."""
        return super().render(request, documented(openapi_schema))


class Page(OpenAPIRenderPlugin):
    """The document, for people."""

    def __init__(self) -> None:
        super().__init__(path="/page", media_type=MediaType.HTML)

    def render(
        self,
        request: Request[Any, Any, Any],  # noqa: ARG002 - the plugin's signature
        openapi_schema: dict[str, Any],
    ) -> bytes:
        """See OpenAPIRenderPlugin."""
        return page(documented(openapi_schema)).encode()


def page(schema: Mapping[str, Any]) -> str:
    """The document as HTML: routes by noun, then the shapes of bodies."""
    info = schema["info"]
    by_tag: dict[str, list[str]] = {}
    for path, method, operation in operations(schema):
        tag = next(iter(operation.get("tags") or ["other"]))
        by_tag.setdefault(tag, []).append(_operation(path, method, operation))
    routes = "".join(f"<h2>{escape(tag)}</h2>{''.join(its)}" for tag, its in sorted(by_tag.items()))
    shapes = "".join(
        _shape(name, its) for name, its in sorted(schema["components"]["schemas"].items())
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}'
        f"</title><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>{escape(info.get('description') or '')} As JSON: "
        f'<a href="openapi.json">openapi.json</a></p>{routes}<h2>Bodies</h2>{shapes}</html>'
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<dt>{escape(it['name'])} <small>{escape(it['in'])}</small></dt>"
        f"<dd>{_kind(it['schema'])}</dd>"
        for it in operation.get("parameters", ())
    )
    body = operation.get("requestBody")
    takes = f"<p>takes {_kind(_content(body))}</p>" if body else ""
    gives = "".join(
        f"<p>{escape(status)}: {_kind(_content(answer))}</p>"
        for status, answer in operation["responses"].items()
    )
    about = escape(operation.get("description") or "")
    return (
        f'<details><summary><span class="m">{method.upper()}</span><code>{escape(path)}</code> '
        f"{about}</summary><dl>{parameters}</dl>{takes}{gives}</details>"
    )


def _content(part: Mapping[str, Any]) -> Mapping[str, Any]:
    for content in (part.get("content") or {}).values():
        schema: Mapping[str, Any] = content.get("schema") or {}
        return schema
    return {}


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in a few words, with a link where it has a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(_REF))
        return f'<a href="#{name}">{name}</a>'
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            return " or ".join(_kind(it) for it in schema[word])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(it))}</code>" for it in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(schema.get('items') or {})}"
    if kind == "object" and schema.get("additionalProperties"):
        return f"object of {_kind(schema['additionalProperties'])}"
    words = kind if isinstance(kind, str) else " or ".join(map(str, kind))
    return escape(f"{words} ({schema['format']})" if "format" in schema else words)


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    members = "".join(
        f"<dt>{escape(member)}{'' if member in required else '?'}</dt><dd>{_kind(its)}</dd>"
        for member, its in schema.get("properties", {}).items()
    )
    about = escape(schema.get("description") or "")
    return (
        f'<details id="{escape(name)}" open><summary><code>{escape(name)}</code> {about}</summary>'
        f"<dl>{members}</dl></details>"
    )
