"""The rules in plain Python and the scripts on a real Valkey, side by side, step by step."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from metering.core.ids import uuid7
from metering.core.limits import Bounds, Charge, Floor, Limit, Mode, Refusal, Refused, State, Unit
from metering.ledger import Hold, Ledger
from metering.ledger.endings import Applied
from metering.ledger.replies import COUNTERS, parse_charges, states_of
from metering.redis import Redis, share
from metering.spool import Spool
from metering.store import Store
from tests.builders import limit, row

DOLLAR = 10**12
pico = st.integers(0, 3 * DOLLAR) | st.integers(0, 12).map(lambda it: it * DOLLAR // 4)
tokens = st.integers(0, 50)
names = st.sampled_from(["abc", "cb", "ac", "a", "b", "c", ""])
sizes = st.sampled_from([3, 100, 10, 1, 0])
"""How many calls of about a dollar, or forty tokens, a limit has room for."""
Beat = tuple[int, int] | None
"""What a heartbeat knows for certain: pico, tokens."""
rated = st.sets(st.sampled_from("abc"), max_size=2)
"""Limits with rates of their own: a call is dearer to them."""
beats: st.SearchStrategy[Beat] = st.none() | st.tuples(pico.map(lambda it: 2 * it), tokens)


def dearer(into: int, out: int) -> tuple[int, int]:
    """What a limit with own rates makes of two amounts in usd."""
    return into * 2 + 1, out * 3 + 2


@dataclass
class Share:
    """What a call holds of one limit, later what it was charged."""

    epoch: int
    likely: int
    ceiling: int
    hard: bool
    rated: bool
    charged: int = 0
    output: int = 0
    """So much of it."""

    def usd(self, into: int, out: int) -> tuple[int, int]:
        """Two amounts of a call, as this limit has them."""
        return dearer(into, out) if self.rated else (into, out)


@dataclass
class Call:
    """One admitted call."""

    hold: Hold
    shares: dict[str, Share]
    status: str = "held"
    floor: Floor = field(default_factory=Floor)
    charges: tuple[Charge, ...] = ()
    corrected: bool = False


@dataclass
class Truth:
    """How a call ended, and what it used."""

    verb: Any
    into: int
    out: int
    used: int

    @staticmethod
    def of(verb: Any, into: int, out: int, used: int) -> Truth:
        """A call that is released has used nothing."""
        return Truth(verb, 0, 0, 0) if verb == "release" else Truth(verb, into, out, used)


@dataclass
class Twin:
    """One limit as the rules have it."""

    limit_id: str
    mode: Mode
    unit: Unit
    max: int
    epoch: int
    settled: int = 0
    settled_input: int = 0
    settled_output: int = 0
    holds: dict[int, Share] = field(default_factory=dict)
    """By the call's id."""
    counts: Counter[State] = field(default_factory=Counter)

    @property
    def definition(self) -> Limit:
        """The limit as the ledger is told of it."""
        return limit(self.limit_id, mode=self.mode, unit=self.unit, max=self.max, epoch=self.epoch)

    def own(self, usd: int, used: int) -> int:
        """An amount in the limit's unit."""
        return {"usd": usd, "tokens": used}.get(self.unit, 1)

    def needed(self, ceiling: int) -> int:
        """What a call must find room for, itself."""
        if self.unit in ("requests", "concurrent"):
            return 1
        return ceiling if self.mode == "hard" else 0

    @property
    def held(self) -> int:
        """What calls in flight count with."""
        counted = self.mode == "hard" and self.unit in ("usd", "tokens")
        return sum(it.ceiling if counted else it.likely for it in self.holds.values())

    @property
    def state(self) -> State:
        """What a successful call leaves the limit in; its threshold is its max."""
        if self.settled > self.max:
            return "overrun"
        return "exceeded" if self.settled == self.max else "ok"


class Machine(RuleBasedStateMachine):
    """Calls on three limits: every verdict, charge and counter is as the rules say."""

    ledger: ClassVar[Ledger]
    redis: ClassVar[Redis]
    run: ClassVar[Any]
    calls = Bundle("calls")
    gone = Bundle("gone")
    """Calls that were given up."""

    def __init__(self) -> None:
        super().__init__()
        self.application_id = str(uuid7(0, os.urandom(10)))
        self.twins: dict[str, Twin] = {}
        self.rows = 0
        self.sums: defaultdict[tuple[str, int], int] = defaultdict(int)

    @initialize(
        kinds=st.lists(
            st.tuples(
                st.sampled_from(["allow", "block", "hard"]),
                st.sampled_from(["usd", "usd", "tokens", "requests", "concurrent"]),
                sizes,
            ),
            min_size=3,
            max_size=3,
        )
    )
    def create(self, kinds: list[tuple[Mode, Unit, int]]) -> None:
        """Three limits of any mode and unit."""
        for name, (mode, unit, size) in zip("abc", kinds, strict=True):
            maximum = size * {"usd": DOLLAR, "tokens": 40}.get(unit, 1)
            self.twins[name] = twin = Twin(name, mode, unit, maximum, epoch=1)
            self.define(twin)

    async def ask(self, *command: str | int) -> Any:
        """A command of Redis's own."""
        return await self.redis.call(*command)

    def define(self, twin: Twin) -> None:
        """Tell the ledger what a limit is."""
        self.run(self.ledger.define(self.own(twin)))

    def own(self, twin: Twin) -> Limit:
        """A limit of this run's application."""
        return msgspec.structs.replace(twin.definition, application_id=self.application_id)

    @rule(
        target=calls,
        asked=st.lists(st.tuples(names, pico, pico, tokens, rated), min_size=1, max_size=4),
    )
    def reserve(self, asked: list[tuple[str, int, int, int, set[str]]]) -> Any:
        """All limits of a call are decided together, all or nothing; of calls at once, in turn."""
        verdicts = self.run(self.together([self.reserving(*one) for one in asked]))
        admitted = [self.admitted(*one, found) for one, found in zip(asked, verdicts, strict=True)]
        return multiple(*(call for call in admitted if call is not None))

    @staticmethod
    async def together(work: list[Any]) -> list[Any]:
        """What several things come to that are begun in one tick: one script takes them all."""
        return await asyncio.gather(*work)

    def reserving(self, names: str, likely: int, more: int, used: int, rated: set[str]) -> Any:
        """One call, asked of the ledger."""
        own = {it for it in rated & set(names) if self.twins[it].unit == "usd"}
        bounds = Bounds(
            likely_pico=likely,
            ceiling_pico=likely + more,
            likely_tokens=used,
            ceiling_tokens=used + 10,
            limits={it: dearer(likely, likely + more) for it in own},
        )
        one = row(application_id=self.application_id, request_id=str(uuid7(1, os.urandom(10))))
        limits = [self.own(self.twins[name]) for name in names]
        return self.ledger.reserve(one, limits, bounds, expected_ms=3_000)

    def admitted(
        self,
        names: str,
        likely: int,
        more: int,
        used: int,
        rated: set[str],
        verdict: Hold | Refused,
    ) -> Call | None:
        """Whether the verdict on one call is right."""
        twins = [self.twins[name] for name in names]
        most = used + 10
        shares = {}
        for it in twins:
            own = Share(it.epoch, 0, 0, it.mode == "hard", it.limit_id in rated)
            own.likely, own.ceiling = own.usd(likely, likely + more)
            own.likely, own.ceiling = it.own(own.likely, used), it.own(own.ceiling, most)
            shares[it.limit_id] = own
        needed = {it.limit_id: it.needed(shares[it.limit_id].ceiling) for it in twins}
        blocked = [
            it
            for it in twins
            if it.mode != "allow" and it.settled + it.held + needed[it.limit_id] > it.max
        ]
        if blocked:
            self.refuse(twins, blocked, verdict, needed)
            return None
        assert isinstance(verdict, Hold)
        assert [epoch for _, epoch in verdict.limits] == [it.epoch for it in twins]
        for it in twins:
            it.holds[id(verdict)] = shares[it.limit_id]
        return Call(verdict, shares)

    def refuse(
        self, twins: list[Twin], blocked: list[Twin], verdict: Any, needed: dict[str, int]
    ) -> None:
        """A refusal names who blocks, is final if money spent is the cause, and holds nothing."""
        assert isinstance(verdict, Refused)
        final = any(it.settled + needed[it.limit_id] > it.max for it in blocked)
        assert verdict.retryable is not final
        assert (verdict.retry_after_s == 0) if final else (1 <= verdict.retry_after_s <= 20)
        assert verdict.blocked_limit_ids == tuple(it.limit_id for it in blocked)
        for it in blocked:
            why = next(why for why in verdict.refusals if why.limit_id == it.limit_id)
            assert why == Refusal(
                limit_id=it.limit_id,
                epoch=it.epoch,
                unit=it.unit,
                mode=it.mode,
                max=it.max,
                settled=it.settled,
                held=it.held,
                needed=needed[it.limit_id],
                holds=len(it.holds),
            )
            assert why.missing > 0
        self.rows += 1
        for it in twins:
            it.counts["blocked" if it in blocked else "blocked_external"] += 1

    @rule(
        call=calls,
        verb=st.sampled_from(["settle", "settle", "release"]),
        into=pico,
        out=pico,
        used=tokens,
        beat=beats,
    )
    def end(self, call: Call, verb: Any, into: int, out: int, used: int, beat: Beat) -> None:
        """The truth is charged once; after an expiry, as a correction, once."""
        self.beat(call, beat)
        truth = Truth.of(verb, into, out, used)
        self.ended(call, truth, self.run(self.ending(call, truth)))

    @rule(
        some=st.lists(
            st.tuples(calls, st.sampled_from(["settle", "settle", "release"]), pico, pico, tokens),
            min_size=2,
            max_size=4,
        )
    )
    def end_together(self, some: list[tuple[Call, Any, int, int, int]]) -> None:
        """Calls that end in one tick are ended in turn, by one script."""
        ends = {id(one[0]): (one[0], Truth.of(*one[1:])) for one in some if one[0].status == "held"}
        found = self.run(self.together([self.ending(*end) for end in ends.values()]))
        for (call, truth), charged in zip(ends.values(), found, strict=True):
            self.ended(call, truth, charged)

    def ending(self, call: Call, truth: Truth) -> Any:
        """The end of a call, asked of the ledger."""
        one = msgspec.structs.replace(
            call.hold.row,
            status="ok",
            cost_pico=truth.into + truth.out,
            input_pico=truth.into,
            output_pico=truth.out,
            limit_costs={
                name: its.usd(truth.into, truth.out)
                for name, its in call.shares.items()
                if its.rated and self.twins[name].unit == "usd" and truth.verb == "settle"
            },
        )
        self.ledger.abandon(call.hold)
        return self.ledger.apply(truth.verb, one, call.hold.limits, truth.used, "held")

    def ended(self, call: Call, truth: Truth, done: Applied) -> None:
        """Whether a call was charged what it should be."""
        charged = done.charged
        into, out, used = truth.into, truth.out, truth.used
        if call.status == "held":
            call.status = "settled"
            if truth.verb == "release":
                self.charge(call, dict.fromkeys(call.shares, 0), None, failed=set(call.shares))
            else:
                owns = {
                    name: self.twins[name].own(sum(its.usd(into, out)), used)
                    for name, its in call.shares.items()
                }
                owns = {k: v for k, v in owns.items() if self.twins[k].unit != "concurrent"}
                self.charge(call, owns, (into, out), failed=set())
        elif call.status == "expired":
            if call.corrected:
                assert charged == b""
                return
            call.corrected = True
            self.correct(call, truth)
        assert parse_charges(charged) == call.charges
        assert states_of(charged) == {it.limit_id: it.state for it in call.charges}

    def charge(
        self,
        call: Call,
        amounts: dict[str, int],
        parts: tuple[int, int] | None,
        *,
        failed: set[str],
    ) -> None:
        """Move a call from held to settled on every limit that is still in its epoch.

        `parts` are input and output of the truth; without it all counts as input.
        """
        self.rows += 1
        charges = []
        for name, its in call.shares.items():
            twin, amount = self.twins[name], amounts.get(name, 0)
            state: State = "failed" if name in failed else "ok"
            its.charged = amount
            if twin.epoch == its.epoch:
                twin.settled += amount
                if twin.unit == "usd":
                    its.output = its.usd(*parts)[1] if parts else 0
                    twin.settled_input += amount - its.output
                    twin.settled_output += its.output
                del twin.holds[id(call.hold)]
                state = "failed" if name in failed else twin.state
                twin.counts[state] += 1
            self.sums[name, its.epoch] += amount
            charges.append(Charge(name, its.epoch, twin.unit, amount, state))
        call.charges = tuple(charges)

    def correct(self, call: Call, truth: Truth) -> None:
        """Replace what an expired call was charged by the truth."""
        self.rows += 1
        charges = []
        for name, its in call.shares.items():
            twin = self.twins[name]
            counted = twin.unit in ("usd", "tokens")
            released = truth.verb == "release"  # it has used nothing, by whatever rates
            its_into, its_out = (0, 0) if released else its.usd(truth.into, truth.out)
            delta = twin.own(its_into + its_out, truth.used) - its.charged if counted else 0
            state: State = "ok"
            if twin.epoch == its.epoch:
                twin.settled += delta
                if twin.unit == "usd":
                    twin.settled_input += its_into - its.charged
                    twin.settled_output += its_out
                state = twin.state
            self.sums[name, its.epoch] += delta
            charges.append(Charge(name, its.epoch, twin.unit, delta, state))
        call.charges = tuple(charges)

    @rule(target=gone, call=calls, beat=beats)
    def expire(self, call: Call, beat: Beat) -> Any:
        """A silent call is charged its ceiling by hard caps, its floor by others."""
        self.beat(call, beat)
        place = share(self.application_id)
        self.ledger.abandon(call.hold)
        if call.status == "held":
            self.run(self.ask("ZADD", place.holds, 1, call.hold.record))
        assert self.run(self.ledger.reap()) == (call.status == "held")
        if call.status != "held":
            return multiple()
        call.status = "expired"
        amounts = {}
        for name, its in call.shares.items():
            unit = self.twins[name].unit
            if unit in ("requests", "concurrent"):
                amounts[name] = int(unit == "requests")
            else:
                certain = call.floor.limit_costs.get(name, (call.floor.pico, 0))[0]
                floor = certain if unit == "usd" else call.floor.tokens
                amounts[name] = its.ceiling if its.hard else floor
        nothing = {name for name, amount in amounts.items() if not amount}
        self.charge(call, amounts, None, failed=nothing)
        return call

    @rule(call=gone, into=pico, out=pico, used=tokens, anew=st.booleans())
    def wake(self, call: Call, into: int, out: int, used: int, *, anew: bool) -> None:
        """The truth of a call that was given up comes after all, perhaps in another epoch."""
        if anew:
            for name in list(call.shares)[:1]:
                self.reset(name)
        self.end(call, "settle", into, out, used, None)

    @rule(call=calls, beat=beats)
    def beat(self, call: Call, beat: Beat) -> None:
        """What is certain raises what is likely; it never lowers it."""
        if beat is None:
            return
        floor, seen = beat
        own = {
            name: (its.usd(floor, 0)[0], 0)
            for name, its in call.shares.items()
            if its.rated and self.twins[name].unit == "usd"
        }
        call.hold.floor = lambda: Floor(floor, seen, own)
        alive = call.hold.record in self.ledger._live
        self.run(self.ledger.heartbeat(0))
        if not alive or call.status != "held":
            return
        call.floor = Floor(floor, seen, own)
        for name, its in call.shares.items():
            twin = self.twins[name]
            if twin.unit in ("usd", "tokens") and twin.epoch == its.epoch:
                its.likely = max(its.likely, twin.own(its.usd(floor, 0)[0], seen))

    @rule(name=st.sampled_from("abc"))
    def reset(self, name: str) -> None:
        """A new epoch begins empty; a limit on calls at once keeps those that run."""
        twin = self.twins[name]
        before = self.run(self.ledger.reset(self.own(twin), twin.epoch + 1))
        assert (before.settled, before.holds) == (twin.settled, len(twin.holds))
        twin.settled = twin.settled_input = twin.settled_output = 0
        twin.counts.clear()
        if twin.unit != "concurrent":
            twin.epoch += 1
            twin.holds.clear()

    @rule(name=st.sampled_from("abc"), size=sizes)
    def resize(self, name: str, size: int) -> None:
        """A new max holds from the next decision on; counters stay."""
        twin = self.twins[name]
        twin.max = size * {"usd": DOLLAR, "tokens": 40}.get(twin.unit, 1)
        self.define(twin)

    @invariant()
    def counters_are_the_rules(self) -> None:
        """Every live counter is the model's."""
        if not self.twins:
            return
        totals = self.run(self.ledger.totals(self.application_id, list(self.twins)))
        for twin, its in zip(self.twins.values(), totals, strict=True):
            name = share(self.application_id).limit(twin.limit_id)
            parts = COUNTERS.unpack(self.run(self.ask("HGET", name, "cnt")))[1:10:2]
            assert all(0 <= part < DOLLAR for part in parts)
            assert self.run(self.ask("ZCARD", f"{name}:h")) == len(twin.holds)
            mine = twin.holds.values()
            assert (its.epoch, its.settled, its.settled_input, its.settled_output) == (
                twin.epoch,
                twin.settled,
                twin.settled_input,
                twin.settled_output,
            )
            assert (its.holds, its.held_likely, its.held_ceiling) == (
                len(mine),
                sum(it.likely for it in mine),
                sum(it.ceiling for it in mine),
            )
            assert {k: v for k, v in its.counts.items() if v} == dict(+twin.counts)

    def teardown(self) -> None:
        """The rows in the outbox are as many as verdicts, and their charges sum to the counters."""
        place = share(self.application_id)
        entries = self.run(self.ask("XRANGE", place.outbox, "-", "+"))
        sums: defaultdict[tuple[str, int], int] = defaultdict(int)
        for _, fields in entries:
            for it in parse_charges(fields[5]):
                sums[it.limit_id, it.epoch] += it.amount
        assert len(entries) == self.rows
        assert {k: v for k, v in sums.items() if v} == {k: v for k, v in self.sums.items() if v}
        for record in self.run(self.ask("ZRANGE", place.holds, 0, -1)):
            self.run(self.ask("ZREM", place.holds, record))
        self.ledger._live.clear()
        self.run(self.ask("DEL", place.outbox))


async def test_the_scripts_do_what_the_rules_say(
    redis_url: str, database: str, tmp_path: Path, size: str
) -> None:
    """Whatever happens to calls, in any order, twice or late: Lua is the rules' twin."""
    await asyncio.to_thread(drive, redis_url, database, tmp_path, size)


def drive(redis_url: str, database: str, tmp_path: Path, size: str) -> None:
    """Run the machine, on an event loop of its own: its steps are not asynchronous."""
    examples, steps = {"ci": (80, 30), "full": (400, 50), "soak": (3_000, 50)}[size]
    with asyncio.Runner() as runner:
        Machine.run = staticmethod(runner.run)
        Machine.redis = runner.run(_opened(redis_url))
        store = runner.run(Store.open(database))
        Machine.ledger = Ledger(
            Machine.redis, store, Spool(tmp_path, "twin"), hold_ttl_ms=3_600_000
        )
        try:
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    database=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(Machine.ledger.close())
            runner.run(Machine.redis.close())
            runner.run(store.close())


async def _opened(url: str) -> Redis:
    return Redis(url, timeout_ms=10_000)
