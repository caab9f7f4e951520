"""Where a call may go by its own words: targets, and which of them are tried in which order.

A plan is a tree. Its leaves are targets; a node above them says which are tried:

| mode          | tries                                                                       |
|---------------|-----------------------------------------------------------------------------|
| `single`      | its first                                                                   |
| `fallback`    | one after the other, as long as they fail with one of its statuses, or any  |
| `loadbalance` | one, drawn by weight                                                        |
| `conditional` | one, by the first condition that holds, or the default                      |

A target that failed with one of its retry's statuses is tried again first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from metering.core.origins import Origin
from metering.core.sealing import Secret
from metering.errors import InvalidRequest

Mode = Literal["single", "fallback", "loadbalance", "conditional"]
MODES: tuple[Mode, ...] = ("single", "fallback", "loadbalance", "conditional")
RETRIED = (429, 500, 502, 503, 504, 529)
"""What is tried again where nothing else is said: 529 is Anthropic's `overloaded`."""
CONFIG = "x-portkey-config"
"""The header that has a plan."""
RETRIES_MAX = 5
DRAW_MAX = 2**32
"""Draws are whole numbers below this."""
PATTERN_MAX = 256
SEARCHED_MAX = 128
"""So many characters of a text are looked at for a pattern: values of metadata have no more."""
EFFORT_MAX = 10
REPEAT = 4
"""So many choices a pattern may leave open: `?` and `|` are one, a repeat is as bad as four."""
PATTERNS_MAX = 20
"""Of a plan."""
_WEIGHT = 10**6
_COMPARED = re.compile(r"\$(eq|ne|gt|gte|lt|lte|in|nin|regex)")


class Retry(msgspec.Struct, frozen=True):
    """How often a target is tried again, and what for."""

    attempts: int = 0
    on_status_codes: tuple[int, ...] = RETRIED
    use_retry_after: bool = False
    """Whether the provider's `retry-after` says how long to wait."""


class Azure(msgspec.Struct, frozen=True):
    """A deployment of Azure's, as headers name it."""

    resource: str | None = None
    deployment: str | None = None
    api_version: str | None = None
    model: str | None = None
    """What the deployed model is: it is priced as that."""
    token: Secret | None = None
    """Entra's, in place of the resource's key."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One place that a call may go to. What it leaves open is found out: by the model, or by what
    stands in the provider's slot."""

    index: str = "config"
    """Its place in the config: `config.targets[1]`."""
    name: str | None = None
    weight: int = _WEIGHT
    """In millionths."""
    provider: str | None = None
    """By Portkey's name of it, or `@slug`."""
    credential: str | None = None
    """The slug of a stored credential: a virtual key."""
    api_key: Secret | None = None
    """The provider's key, where a config has it."""
    slot: bool = True
    """Whether the key that stands in the provider's slot of the call may go there."""
    host: Origin | None = None
    """Where to, in place of the provider's own host."""
    host_field: str = "x-portkey-custom-host"
    """Where that was said."""
    azure: Azure = Azure()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """More headers for the provider."""
    override: Mapping[str, msgspec.Raw] = {}
    """Members that take the place of the request's own."""
    strict: bool = True
    retry: Retry = Retry()
    timeout_ms: int | None = None
    """How long the provider may take to begin its answer."""


NOBODY = Target()


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A target, or several and how they are chosen from."""

    target: Target | None = None
    mode: Mode = "single"
    nodes: tuple[Node, ...] = ()
    on_status_codes: tuple[int, ...] = ()
    """Of a fallback; none: whatever is no 2xx."""
    conditions: tuple[tuple[Mapping[str, Any], str], ...] = ()
    """Queries, and the names of the nodes that they lead to."""
    default: str | None = None
    name: str | None = None
    weight: int = _WEIGHT

    @property
    def conditional(self) -> bool:
        """Whether what is tried depends on the request."""
        return self.mode == "conditional" or any(it.conditional for it in self.nodes)

    @property
    def targets(self) -> tuple[Target, ...]:
        """All that may be tried."""
        if self.target is not None:
            return (self.target,)
        return tuple(target for it in self.nodes for target in it.targets)

    def each(self, change: Callable[[Target], Target]) -> Node:
        """The same with each target changed."""
        if self.target is not None:
            return msgspec.structs.replace(self, target=change(self.target))
        nodes = tuple(it.each(change) for it in self.nodes)
        return msgspec.structs.replace(self, nodes=nodes)

    @property
    def patterns(self) -> int:
        """How many patterns its conditions have."""
        own = sum(_patterns(query) for query, _ in self.conditions)
        return own + sum(it.patterns for it in self.nodes)

    def moves_on(self, status: int) -> bool:
        """Whether a fallback tries its next after such an answer."""
        if self.on_status_codes:
            return status in self.on_status_codes
        return not 200 <= status < 300

    def drawn(self, draw: int) -> Node:
        """One of a load balance, by a draw below `DRAW_MAX`."""
        total = sum(it.weight for it in self.nodes)
        at = draw * total // DRAW_MAX
        for it in self.nodes:
            at -= it.weight
            if at < 0:
                return it
        return self.nodes[-1]

    def chosen(self, facts: Mapping[str, Any]) -> Node:
        """One by conditions on `metadata`, `params` and `url` of the request; InvalidRequest if
        none holds and there is no default."""
        named = {it.name: it for it in self.nodes if it.name is not None}
        for query, then in self.conditions:
            if holds(query, facts):
                return named[then]
        if self.default is None:
            raise InvalidRequest(
                "no condition of the config holds for this request, and strategy.default is not "
                "set: name a target there",
                code="no_matching_condition",
                field=CONFIG,
            )
        return named[self.default]


class Step(NamedTuple):
    """A target, and how often it has been tried before."""

    target: Target
    retries: int


class Course:
    """The way through a plan: what is tried next, by how the last target answered."""

    def __init__(self, plan: Node, draw: Callable[[], int], facts: Mapping[str, Any]) -> None:
        """`draw` gives a number below `DRAW_MAX`; `facts`: see `Node.chosen`."""
        self._plan = plan
        self._draw = draw
        self._facts = facts
        self._above: list[tuple[Node, int]] = []
        self._step = Step(NOBODY, 0)

    def first(self) -> Step:
        """What is tried first; raises InvalidRequest if the plan leads nowhere."""
        return self._down(self._plan)

    def after(self, status: int, *, again: bool = True) -> Step | None:
        """What is tried after an answer with a status; None: nothing more. `again`: whether the
        same target may be."""
        target, retries = self._step
        if again and retries < target.retry.attempts and status in target.retry.on_status_codes:
            self._step = Step(target, retries + 1)
            return self._step
        while self._above:
            node, at = self._above.pop()
            if node.mode == "fallback" and at + 1 < len(node.nodes) and node.moves_on(status):
                self._above.append((node, at + 1))
                return self._down(node.nodes[at + 1])
        return None

    @property
    def exhausted(self) -> bool:
        """Whether the last target was tried as often as it may be, and more than once."""
        return 0 < self._step.retries == self._step.target.retry.attempts

    def _down(self, node: Node) -> Step:
        while node.target is None:
            if node.mode in ("single", "fallback"):
                self._above.append((node, 0))
                node = node.nodes[0]
            else:
                of = node
                node = (
                    of.drawn(self._draw()) if of.mode == "loadbalance" else of.chosen(self._facts)
                )
        self._step = Step(node.target, 0)
        return self._step


def leaf(target: Target) -> Node:
    """A plan of one target."""
    return Node(target=target, name=target.name, weight=target.weight)


def holds(query: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether a condition holds: all of its members do. `$and` and `$or` take lists of such."""
    return all(_holds(key, asked, facts) for key, asked in query.items())


def _holds(key: str, asked: Any, facts: Mapping[str, Any]) -> bool:
    if key == "$and":
        return all(holds(it, facts) for it in asked)
    if key == "$or":
        return any(holds(it, facts) for it in asked)
    found: Any = facts
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(asked, Mapping):
        return bool(found == asked)
    return all(_compares(how, it, found) for how, it in asked.items())


def _compares(how: str, asked: Any, found: Any) -> bool:
    match how:
        case "$eq":
            return bool(found == asked)
        case "$ne":
            return bool(found != asked)
        case "$in":
            return found in asked
        case "$nin":
            return found not in asked
        case "$regex":
            text = found[:SEARCHED_MAX] if isinstance(found, str) else None
            return text is not None and re.search(asked, text) is not None
    return _orders(how, asked, found)


def _orders(how: str, asked: Any, found: Any) -> bool:
    """Numbers are compared with numbers, texts with texts; nothing else has an order."""
    if isinstance(asked, str) is not isinstance(found, str) or found is None:
        return False
    try:
        return bool(
            (how == "$gt" and found > asked)
            or (how == "$gte" and found >= asked)
            or (how == "$lt" and found < asked)
            or (how == "$lte" and found <= asked)
        )
    except TypeError:
        return False


def _patterns(query: Any) -> int:
    if isinstance(query, Mapping):
        return ("$regex" in query) + sum(map(_patterns, query.values()))
    return sum(map(_patterns, query)) if isinstance(query, list) else 0


def check_query(query: Any, where: str, depth: int = 0) -> None:
    """Raise InvalidRequest for a condition that means nothing. Patterns are short: they are run on
    what callers send."""
    if not isinstance(query, Mapping) or not query or depth > 8:
        raise wrong(where, 'must be an object such as {"metadata.plan": {"$eq": "paid"}}')
    for key, asked in query.items():
        if key in ("$and", "$or"):
            if not isinstance(asked, Sequence) or isinstance(asked, str) or not asked:
                raise wrong(f"{where}.{key}", "must be a list of conditions")
            for index, it in enumerate(asked):
                check_query(it, f"{where}.{key}[{index}]", depth + 1)
        elif not key.startswith(("metadata.", "params.", "url.")):
            raise wrong(f"{where}.{key}", "must begin with metadata., params. or url.")
        elif isinstance(asked, Mapping):
            for how, it in asked.items():
                _check_comparison(how, it, f"{where}.{key}.{how}")


def _check_comparison(how: str, asked: Any, where: str) -> None:
    if not _COMPARED.fullmatch(how):
        known = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $regex"
        raise wrong(where, f"is no comparison; there are {known}")
    if how in ("$in", "$nin") and not isinstance(asked, list):
        raise wrong(where, "must be a list")
    if how == "$regex":
        _check_pattern(asked, where)


def _check_pattern(asked: Any, where: str) -> None:
    """A pattern takes time by the ways in which it may match, and callers choose both it and what
    it is run on: few choices, and no repeats of groups."""
    if not isinstance(asked, str) or len(asked) > PATTERN_MAX:
        raise wrong(where, f"must be a pattern of at most {PATTERN_MAX} characters")
    plain = re.sub(r"\\.|\[[^]]*\]", "x", asked)
    plain = re.sub(r"([*+?]|{[0-9,]+})\?", r"\1", plain)  # lazy ones are no further choice
    effort = REPEAT * len(re.findall(r"[*+{]", plain)) + len(re.findall(r"[?|]", plain))
    if effort > EFFORT_MAX or re.search(r"\)[*+?{]|\(\?", plain):
        raise wrong(
            where,
            f"may repeat at most {EFFORT_MAX // REPEAT} times, and no groups, and has at most "
            f"{EFFORT_MAX} of ? and |, each repeat counting as {REPEAT}",
        )
    try:
        re.compile(asked)
    except (re.error, RecursionError, OverflowError):
        raise wrong(where, "is no regular expression") from None


def wrong(where: str, problem: str) -> InvalidRequest:
    """The fault of a member of a config, in Portkey's words."""
    return InvalidRequest(
        f"Invalid config passed. path: {where}, message: {problem}",
        code="invalid_config",
        field=f"{CONFIG}: {where}",
    )
