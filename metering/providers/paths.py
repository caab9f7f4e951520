"""What a method and path mean to a provider, whatever way the path is spelled.

A path that a provider may take for a metered one (`/v1//messages/`, `/v1/%6dessages`) is metered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from metering.providers.base import Endpoint

FREE = Endpoint("other", "free")
UNMETERED = Endpoint("other", "unmetered")
_FREE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def posts(*paths: str) -> re.Pattern[str]:
    """Plain lower-case paths as one pattern: `*` stands for a segment or the rest of one, `/**` at
    the end for all that is below, or nothing."""
    parts = []
    for path in paths:
        exact = re.escape(path.removesuffix("/**")).replace(r"\*", "[^/]+")
        parts.append(exact + "(?:/.*)?" if path.endswith("/**") else exact)
    return re.compile("|".join(parts))


def classify(
    method: str, path: str, metered: Mapping[str, Endpoint], free_posts: re.Pattern[str]
) -> Endpoint:
    """The endpoint of a method and path; `metered` are plain lower-case paths."""
    if method in _FREE_METHODS:
        return FREE
    endpoint = metered.get(path)
    if endpoint is None:
        path = _plain(path)
        endpoint = metered.get(path)
    if endpoint is not None:
        return endpoint if method == "POST" else UNMETERED
    if method == "POST" and free_posts.fullmatch(path):
        return FREE
    return UNMETERED


def _plain(path: str) -> str:
    """The path decoded, in lower case, with single slashes and none at its end."""
    return "/" + "/".join(part for part in unquote(path).lower().split("/") if part)
