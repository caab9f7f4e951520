"""Plans of targets: which is tried next, which is drawn, and when a condition holds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.routing import (
    DRAW_MAX,
    NOBODY,
    Course,
    Mode,
    Node,
    Retry,
    Target,
    check_query,
    holds,
    leaf,
)
from metering.errors import InvalidRequest

FACTS = {
    "metadata": {"plan": "paid", "_user": None},
    "params": {"model": "gpt-4o", "max_tokens": 50, "nested": {"a": [1]}},
    "url": {"pathname": "/v1/chat/completions"},
}


def target(name: str, attempts: int = 0, *codes: int, weight: int = 10**6) -> Node:
    """A target that is tried again so often, for these statuses."""
    retry = Retry(attempts, codes or Retry().on_status_codes)
    return leaf(Target(index=name, name=name, retry=retry, weight=weight))


def several(mode: Mode, *nodes: Node, codes: tuple[int, ...] = (), **more: Any) -> Node:
    """Several targets."""
    return Node(mode=mode, nodes=nodes, on_status_codes=codes, **more)


def way(plan: Node, *statuses: int, draw: int = 0) -> list[str]:
    """What is tried, each answering with the next status, until nothing is left."""
    course = Course(plan, lambda: draw, FACTS)
    tried = [course.first()]
    for status in statuses:
        step = course.after(status)
        if step is None:
            break
        tried.append(step)
    return [f"{it.target.index}{'+' * it.retries}" for it in tried]


A, B, C = target("a"), target("b"), target("c")


@pytest.mark.parametrize(
    ("plan", "statuses", "tried"),
    [
        (A, (500, 500), ["a"]),
        (leaf(NOBODY), (429,), ["config"]),
        (target("a", 2), (500, 500, 500), ["a", "a+", "a++"]),
        (target("a", 2), (500, 400), ["a", "a+"]),
        (target("a", 2, 418), (500,), ["a"]),
        (target("a", 2, 418), (418, 418, 418), ["a", "a+", "a++"]),
        (several("single", A, B), (500,), ["a"]),
        (several("fallback", A, B, C), (500, 404, 401), ["a", "b", "c"]),
        (several("fallback", A, B, C, codes=(429,)), (429, 500), ["a", "b"]),
        (several("fallback", target("a", 1), B), (500, 500, 400), ["a", "a+", "b"]),
        (several("fallback", several("fallback", A, B), C), (500, 500, 500), ["a", "b", "c"]),
        # the inner one is over with a status that only the outer one moves on for
        (
            several("fallback", several("fallback", A, B, codes=(429,)), C, codes=(500,)),
            (500, 500),
            ["a", "c"],
        ),
        (several("fallback", several("single", A, B), C), (500, 500), ["a", "c"]),
        (several("fallback", several("loadbalance", A, B), C), (500, 500), ["a", "c"]),
    ],
)
def test_what_is_tried(plan: Node, statuses: tuple[int, ...], tried: list[str]) -> None:
    """A target as often as its retry says, then what a fallback above it has, from inside out."""
    assert way(plan, *statuses) == tried


def test_exhausted() -> None:
    """A target that was tried again in vain says so; one that may not be tried again does not."""
    said = []
    for plan in (target("a", 1), A):
        course = Course(plan, lambda: 0, FACTS)
        course.first()
        said.append(course.exhausted)
        course.after(500)
        said.append(course.exhausted)
    assert said == [False, True, False, False]


def test_a_target_that_cannot_be_planned_is_not_tried_again() -> None:
    """What is wrong with it will be wrong again."""
    course = Course(several("fallback", target("a", 5), B), lambda: 0, FACTS)
    course.first()
    step = course.after(500, again=False)
    assert step is not None
    assert step.target.index == "b"


@given(st.lists(st.integers(0, 10**12), min_size=1).filter(any), st.integers(0, DRAW_MAX - 1))
def test_draws(weights: list[int], draw: int) -> None:
    """A draw falls on the target whose share it is in; never on one without weight."""
    nodes = [target(str(at), weight=weight) for at, weight in enumerate(weights)]
    plan = Node(mode="loadbalance", nodes=tuple(nodes))
    at = int(way(plan, draw=draw)[0])
    place = draw * sum(weights) // DRAW_MAX
    assert sum(weights[:at]) <= place < sum(weights[: at + 1])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"metadata.plan": "paid"}, True),
        ({"metadata.plan": {"$eq": "free"}}, False),
        ({"metadata.plan": {"$ne": "free"}}, True),
        ({"metadata.nothing": {"$eq": None}}, True),
        ({"metadata.plan.deeper": {"$eq": None}}, True),
        ({"params.max_tokens": {"$gt": 49, "$lt": 51}}, True),
        ({"params.max_tokens": {"$gte": 50, "$lte": 50}}, True),
        ({"params.max_tokens": {"$gt": 50}}, False),
        ({"params.max_tokens": {"$gt": "4"}}, False),
        ({"params.nothing": {"$lt": 5}}, False),
        ({"params.nested": {"$gt": 5}}, False),
        ({"params.model": {"$in": ["gpt-4o", "o3"]}}, True),
        ({"params.model": {"$nin": ["gpt-4o"]}}, False),
        ({"params.model": {"$regex": "^gpt-"}}, True),
        ({"params.max_tokens": {"$regex": "5"}}, False),
        ({"url.pathname": {"$eq": "/v1/chat/completions"}}, True),
        # siblings count, whatever stands beside them
        ({"params.model": {"$regex": "^gpt-", "$ne": "gpt-4o"}}, False),
        ({"$and": [{"metadata.plan": "paid"}], "params.max_tokens": {"$gt": 50}}, False),
        ({"$or": [{"metadata.plan": "free"}, {"params.max_tokens": 50}]}, True),
        ({"$or": [{"metadata.plan": "free"}], "metadata.plan": "paid"}, False),
    ],
)
def test_conditions(query: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    """All members of a condition have to hold."""
    check_query(query, "query")
    assert holds(query, FACTS) is expected


def test_the_first_condition_that_holds_chooses() -> None:
    """Else the default; without one the call is refused."""
    conditions = (({"metadata.plan": "free"}, "a"), ({"metadata.plan": "paid"}, "b"))
    plan = several("conditional", A, B, C, conditions=conditions, default="c")
    assert way(plan) == ["b"]
    assert way(several("conditional", A, C, conditions=conditions[:1], default="c")) == ["c"]
    with pytest.raises(InvalidRequest, match=r"strategy\.default is not set"):
        way(several("conditional", A, conditions=conditions[:1]))


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ([], "q"),
        ({}, "q"),
        ({"headers.x": 1}, "q.headers.x"),
        ({"params.x": {"$like": 1}}, "q.params.x.$like"),
        ({"params.x": {"$in": 1}}, "q.params.x.$in"),
        ({"params.x": {"$regex": "("}}, "q.params.x.$regex"),
        ({"params.x": {"$regex": "(a+)+b"}}, "q.params.x.$regex"),
        ({"params.x": {"$regex": "(a|aa)*b"}}, "q.params.x.$regex"),
        ({"params.x": {"$regex": "a*a*a*b"}}, "q.params.x.$regex"),
        ({"params.x": {"$regex": "(?=a)"}}, "q.params.x.$regex"),
        ({"params.x": {"$regex": "a?" * 40 + "a" * 40}}, "q.params.x.$regex"),
        ({"params.x": {"$regex": "}?" * 40 + "}" * 40}}, "q.params.x.$regex"),
        ({"params.x": {"$regex": "(ab|[a])" * 20 + "c"}}, "q.params.x.$regex"),
        ({"params": {"$eq": {}}}, "q.params"),
        ({"params.x": {"$regex": "x" * 257}}, "q.params.x.$regex"),
        ({"$and": {}}, "q.$and"),
        ({"$or": []}, "q.$or"),
        ({"$or": [{"x": 1}]}, "q.$or[0].x"),
    ],
)
def test_conditions_that_mean_nothing(query: Any, where: str) -> None:
    """Are refused by their path; so are patterns that could take for ever."""
    with pytest.raises(InvalidRequest) as caught:
        check_query(query, "q")
    assert caught.value.field == f"x-portkey-config: {where}"


def test_conditions_within_conditions_have_an_end() -> None:
    """They are read by recursion."""
    query: dict[str, Any] = {"params.x": 1}
    for _ in range(20):
        query = {"$and": [query]}
    with pytest.raises(InvalidRequest):
        check_query(query, "q")


@pytest.mark.parametrize(
    "pattern", [r"\*\*\*\(\?", "[*+?]a*b+", "^gpt-(4o|5)$", "a?b?c?", ".*?@.*?"]
)
def test_patterns_that_are_fine(pattern: str) -> None:
    """What is escaped, or in a class, repeats nothing."""
    check_query({"params.x": {"$regex": pattern}}, "q")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a*a*a?a?b", "a" * 10_000),
        ("a*" + "a?" * 6 + "b", "a" * 10_000),
        ("a?" * 10 + "a" * 10 + "b", "a" * 10_000),
        ("(ab|[a])" * 10 + "c", "ab" * 10_000),
    ],
)
def test_the_worst_pattern_ends_soon(pattern: str, text: str) -> None:
    """Whatever it is run on, for all of a worker's calls wait meanwhile."""
    query = {"params.x": {"$regex": pattern}}
    check_query(query, "q")
    began_s = time.process_time()
    assert not holds(query, {"params": {"x": text}})
    assert time.process_time() - began_s < 0.5
