"""What a model may be called: spellings of one name, from as written to the bare model.

A cloud names models by path, region, version and date; an entry of the catalogue may name any of
these, and the most specific one that it names is meant. No spelling ever leads to another model:
what is taken off is a path, a place, a date or a revision, and only in the form its cloud gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from pricing.catalogue import ModelEntry

PATTERNS_CACHED = 4_096
"""How many patterns with digits in them are kept compiled."""

_COMPACT_DATE = re.compile(r"[-@](20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$", re.ASCII)
_SNAPSHOT = re.compile(r"[-@]20\d\d-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])$", re.ASCII)
# Bedrock's revisions (`-v1:0`, `:0`, `-v2:0:300k`), Vertex's (`@default`, `@001`).
_REVISION = {
    "aws": re.compile(r"(-v\d+(:\d+(:\w+)?)?|:\d+(:\w+)?)$", re.ASCII),
    "google": re.compile(r"(@\w+|-maas)$", re.ASCII),
}
_PATH = {
    "aws": re.compile(r"^(arn:aws[a-z-]*:bedrock:.*/|bedrock/([a-z]{2}(-gov)?-[a-z]+-[0-9]/)?)"),
    "google": re.compile(
        r"^((projects/[^/]+/locations/[^/]+/)?publishers/[^/]+/models/|(tuned)?models/"
        r"|vertex_ai/|gemini/|(google|anthropic)[./])"
    ),
    "azure": re.compile(r"^azure(_ai)?/"),
    "databricks": re.compile(r"^system\.ai\."),
    "fireworks": re.compile(r"^(fireworks_ai/)?accounts/fireworks/models/"),
}
# Inference profiles of Bedrock: where a call may be answered.
_REGION = re.compile(r"^(us-gov|us|eu|apac|jp|au|ca|in|sa|me|af|uk|global)\.")


def spellings(provider: str, model: str) -> Iterator[str]:
    """The names an entry of the provider may have for a model, the most specific first."""
    name = model.lower()
    yield from _dates(name)
    bare = name.removeprefix(f"{provider}/")
    if provider in _PATH:
        bare = _PATH[provider].sub("", bare)
    if bare != name:
        yield from _dates(bare)
    if provider in _REVISION and (plain := _REVISION[provider].sub("", bare)) != bare:
        yield from _dates(plain)
    if provider == "aws" and (anywhere := _REGION.sub("", bare)) != bare:
        yield from spellings(provider, anywhere)


def place_of(provider: str, name: str) -> str:
    """Where Bedrock answers, by a model's name: `eu`, `global`; empty where it does not say."""
    found = _REGION.match(name) if provider == "aws" else None
    return found[1] if found else ""


def _dates(name: str) -> tuple[str, str, str]:
    """As it is, with dashes in its date, and without."""
    return name, _COMPACT_DATE.sub(r"-\1-\2-\3", name), _SNAPSHOT.sub("", name)


class Names:
    """One provider's entries: an exact name beats a pattern, a longer pattern a shorter."""

    def __init__(self, provider: str, entries: Sequence[ModelEntry]) -> None:
        self._provider = provider
        self.entries = entries
        self._exact: dict[str, ModelEntry] = {}
        patterns: list[tuple[str, ModelEntry]] = []
        for entry in entries:
            for pattern in entry.match:
                if "*" in pattern or "#" in pattern:
                    patterns.append((pattern, entry))
                else:
                    self._exact[pattern] = entry
        patterns.sort(key=lambda item: -len(item[0]))
        self._patterns = patterns

    def match(self, model: str) -> ModelEntry | None:
        """The entry a model name stands for."""
        for name in dict.fromkeys(spellings(self._provider, model)):
            if entry := self.called(name):
                return entry
        return None

    def called(self, name: str) -> ModelEntry | None:
        """The entry that has this very name, in lower case."""
        return self._exact.get(name) or self._by_pattern(name)

    def _by_pattern(self, name: str) -> ModelEntry | None:
        fitting = (entry for pattern, entry in self._patterns if fits(pattern, name))
        return next(
            (entry for entry in fitting if not any(fits(not_it, name) for not_it in entry.unless)),
            None,
        )


def fits(pattern: str, name: str) -> bool:
    """Whether a name is one that a pattern of the catalogue is for."""
    bare = pattern.strip("*")
    open_start, open_end = pattern.startswith("*"), pattern.endswith("*")
    if "#" in bare:
        return _regex(pattern).fullmatch(name) is not None
    if open_start:
        return bare in name if open_end else name.endswith(bare)
    return name.startswith(bare) if open_end else name == bare


@lru_cache(maxsize=PATTERNS_CACHED)
def _regex(pattern: str) -> re.Pattern[str]:
    parts = ("[0-9]" if c == "#" else ".*" if c == "*" else re.escape(c) for c in pattern)
    return re.compile("".join(parts), re.DOTALL)
