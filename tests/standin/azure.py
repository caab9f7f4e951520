"""Azure's ways: the vendors' endpoints at deployments, and what Azure does differently there.

A deployment in the path decides the model, whatever the body says; its name says nothing. Members
that an `api-version` does not know are refused. A stream begins with what the filters found.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs

from tests.standin.answers import Answer, encode

DEPLOYED = {"prod-chat": "gpt-4o-mini", "prod-claude": "claude-haiku-4-5"}
"""What is deployed under names of its own; other names are those of models."""
PATH = re.compile(r"/(openai(?:/deployments/(?P<name>[^/]+)|/v1)?|anthropic/v1)(?P<rest>/.*)")
STREAM_OPTIONS_SINCE = "2024-09-01"
RESULTS = {"hate": {"filtered": False, "severity": "safe"}}


def vendors(path: str, body: bytes) -> tuple[str, bytes, str | None] | None:
    """The vendor's path and body of a request, and the model that the path names, if any; None for
    one that is not Azure's. A form is left as it is."""
    match = PATH.fullmatch(path)
    if match is None:
        return None
    named = DEPLOYED.get(match["name"], match["name"])
    try:
        members = json.loads(body)
    except ValueError:
        return "/v1" + match["rest"], body, named
    model = named or DEPLOYED.get(members.get("model"), members.get("model"))
    return "/v1" + match["rest"], encode(members | {"model": model}), named


def refusal(query: bytes, body: bytes) -> str | None:
    """Why Azure refuses a chat: a member it does not know in this version, or with these data."""
    members: dict[str, Any] = json.loads(body)
    if "stream_options" not in members:
        return None
    version = parse_qs(query.decode()).get("api-version", ["preview"])[0]
    if version[0].isdigit() and version < STREAM_OPTIONS_SINCE:
        return "Unrecognized request argument supplied: stream_options"
    if "data_sources" in members:
        return "Validation error at #/stream_options: Extra inputs are not permitted"
    return None


def filtered(answer: Answer) -> Answer:
    """A stream of chunks with the filters' chunk before it."""
    if answer.stream and answer.provider == "openai" and b'"choices"' in answer.pieces[0]:
        found = [{"prompt_index": 0, "content_filter_results": RESULTS}]
        first = {"id": "", "model": "", "object": "", "created": 0, "choices": []}
        chunk = encode(first | {"prompt_filter_results": found})
        answer.pieces.insert(0, b"data: %b\n\n" % chunk)
    return answer
