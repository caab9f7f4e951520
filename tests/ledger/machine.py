"""The rules in plain Python and the scripts on a real Valkey, side by side, step by step.

Two proxies, each a ledger with its own connection and journal, make calls on three limits. Every
verdict, charge, row, deadline and counter is what `core.rules` says, after every step.

The scripts are the product's but for one line: `now_ms` reads the machine's clock, so that windows
pass and holds are given up when a step says so. `planted` says how faults are put into them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from msgspec.structs import replace

from metering.core import rules
from metering.core.books import Books, Call, Live, Share, Used, define, forget, present, reset
from metering.core.ids import uuid7
from metering.core.limits import STATES, Bounds, Floor, Limit, Refusal, Refused, Totals, until_ms
from metering.core.rules import Verb
from metering.core.windows import Window
from metering.ledger import Hold, Ledger
from metering.ledger.replies import (
    IS,
    WAIT_S_MAX,
    amount,
    parse_charges,
    states_of,
    totals_of,
    what_is,
)
from metering.ledger.unlanded import Unlanded
from metering.redis import Argument, Redis, share
from metering.redis.batch import Reply
from metering.redis.scripts import Script
from metering.spool import Spool
from metering.store import Store
from tests.builders import APPLICATION, NOW_MS, limit, row

DOLLAR = 10**12
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
TTL_MS, EXPECTED_MS = 30 * SECOND, 3 * SECOND
PLACE = share(APPLICATION)
CLOCK = "clock"
PROXIES = (0, 1)

pico = st.integers(0, 3 * DOLLAR) | st.integers(0, 12).map(lambda it: it * DOLLAR // 4)
tokens = st.integers(0, 50)
proxies = st.sampled_from(PROXIES)
names = st.sampled_from(["abc", "cb", "bca", "ac", "cab", "a", "b", "c", ""])
sizes = st.sampled_from([3, 100, 10, 1, 0])
"""How many calls of about a dollar, or forty tokens, a limit has room for."""
rated = st.sets(st.sampled_from("abc"), max_size=2)
"""Limits with rates of their own: a call is dearer to them."""
which = st.integers(0, 7)
"""One of the calls in flight."""
verbs: st.SearchStrategy[Verb] = st.sampled_from(["settle", "settle", "release"])
windows = st.sampled_from(
    [
        None,
        Window(every="hour"),
        Window(rolling="1 hour"),
        None,
        Window(every="day", zone="Europe/Berlin"),
        Window(rolling="1 minute"),
    ]
)
kinds = st.tuples(
    st.sampled_from(["allow", "block", "hard"]),
    st.sampled_from(["usd", "usd", "tokens", "requests", "concurrent"]),
    sizes,
    windows,
    st.sampled_from([None, 750_000, 999_999]),
)
pauses = st.sampled_from([0, 0, 0, 0, SECOND, 20 * MINUTE, HOUR, 25 * HOUR])
spans = st.sampled_from([SECOND, 1, 10 * SECOND, MINUTE, 20 * MINUTE, HOUR, 25 * HOUR])


class Asked(NamedTuple):
    """A call that wants to be admitted."""

    proxy: int
    names: str
    likely: int
    more: int
    used: int
    rated: set[str]


class Truth(NamedTuple):
    """What a call turns out to have used."""

    into: int
    out: int
    used: int


asked = st.builds(Asked, proxies, names, pico, pico, tokens, rated)
truths = st.builds(Truth, pico, pico, tokens)
floors = st.none() | st.tuples(pico.map(lambda it: 2 * it), tokens)


class Work(NamedTuple):
    """One thing that a proxy asks of its ledger: what comes of it, and what should."""

    proxy: int
    kind: str
    ask: Callable[[], Awaitable[Any]]
    expected: Callable[[Books], tuple[Books, Any]]
    read: Callable[[Any], Any]


class Rehearsed(Redis):
    """A connection that runs the scripts it was given in place of the product's."""

    def __init__(self, url: str, scripts: Mapping[str, Script]) -> None:
        super().__init__(url, timeout_ms=10_000)
        self._scripts = scripts

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        """The same script, as it was given."""
        return await super().run(self._scripts[script.name], keys, arguments)

    def each(
        self, script: Script, shared: Any, first: Any, keys: Any, arguments: Any
    ) -> asyncio.Future[Reply]:
        """The same."""
        return super().each(self._scripts[script.name], shared, first, keys, arguments)


class Timed(Ledger):
    """A ledger that takes the machine's clock for the server's, as the scripts do."""

    async def now_ms(self) -> int:
        """What the clock says."""
        return int(await self._redis.call("GET", CLOCK))


class Arena:
    """Two proxies before one Valkey, and how many steps were made there."""

    def __init__(
        self, run: Callable[[Coroutine[Any, Any, Any]], Any], redis: Redis, ledgers: list[Timed]
    ) -> None:
        self.run = run
        self.redis = redis
        self.ledgers = ledgers
        self.steps = 0
        self.examples = 0

    @staticmethod
    async def open(url: str, database: str, folder: Path, scripts: Mapping[str, Script]) -> Any:
        """What an arena is made of."""
        store = await Store.open(database)
        ledgers = [
            Timed(Rehearsed(url, scripts), store, Spool(folder, f"p{it}"), hold_ttl_ms=TTL_MS)
            for it in PROXIES
        ]
        redis = Redis(url, timeout_ms=10_000)
        for script in scripts.values():  # one that is not known yet would come behind others
            await redis.call(*script.loading)
        return redis, ledgers

    def machine(self) -> type[Machine]:
        """One that runs here."""
        return type("Here", (Machine,), {"arena": self})

    async def close(self) -> None:
        """End the connections."""
        for ledger in self.ledgers:
            await ledger.close()
            await ledger._redis.close()
        await self.ledgers[0]._store.close()
        await self.redis.close()


class Machine(RuleBasedStateMachine):
    """Calls of two proxies on three limits, and whatever else happens to them."""

    arena: ClassVar[Arena]
    calls = Bundle("calls")
    gone = Bundle("gone")
    """Calls that were given up."""

    def __init__(self) -> None:
        super().__init__()
        self.books = self.checked = Books()
        self.known: dict[str, Limit] = {}
        """The limits as proxies know them, those that are deleted too."""
        self.deleted: set[str] = set()
        self.holds: dict[str, tuple[Hold, int]] = {}
        """Admitted calls and whose they are, by record."""
        self.rated: dict[str, set[str]] = {}
        self.now_ms = NOW_MS
        self.skews = (0, 0)
        self.seen = "-"
        """The last entry of the outbox that was looked at."""
        self.numbers = count(1)
        self.arena.examples += 1
        for ledger in self.arena.ledgers:
            ledger._live.clear()
            ledger._unlanded = Unlanded()
        self.ask(("FLUSHALL",))
        self.passes(0)

    # What rules are made of

    def ask(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """Redis's replies to commands that are sent at once."""
        found: list[Any] = self.run(_all([self.arena.redis.call(*it) for it in commands]))
        return found

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for something."""
        return self.arena.run(work)

    def ledger(self, proxy: int) -> Timed:
        """A proxy's."""
        return self.arena.ledgers[proxy]

    def live(self, proxy: int) -> set[str]:
        """The records that a proxy keeps alive."""
        return set(self.ledger(proxy)._live)

    @property
    def running(self) -> list[str]:
        """The calls in flight."""
        return [it for it, call in self.books.calls.items() if call.status == "held"]

    def passes(self, span_ms: int) -> None:
        """Let time pass."""
        self.now_ms += span_ms
        self.ask(("SET", CLOCK, self.now_ms))

    def at_once(self, work: Sequence[Work]) -> list[Any]:
        """What several things come to that are begun in one tick: a proxy's travel together, and
        those of the other come to Redis behind them.

        Both at the same time would come in either order, and no step could be taken again.
        """
        found: dict[int, Any] = {}
        for proxy in dict.fromkeys(it.proxy for it in work):
            order = _in_runs(work, proxy)
            its = self.run(_all([work[at].ask() for at in sorted(order)]))
            found |= dict(zip(sorted(order), its, strict=True))
            for at in order:
                self.books, expected = work[at].expected(self.books)
                read = work[at].read(found[at])
                assert read == expected, (read, expected)
        return [found[at] for at in range(len(work))]

    # Limits

    @initialize(
        kinds=st.lists(kinds, min_size=3, max_size=3),
        skews=st.sampled_from([(0, 0), (0, 50 * MINUTE), (-50 * MINUTE, 0)]),
        past=st.sampled_from([0, 59 * MINUTE, 61]),
    )
    def create_all(self, kinds: list[Any], skews: tuple[int, int], past: int) -> None:
        """Three limits of any mode, unit and window; the proxies' clocks may differ."""
        self.skews = skews
        self.passes(past)
        for name, kind in zip("abc", kinds, strict=True):
            self.create(name, kind)

    def create(
        self,
        name: str,
        kind: tuple[Any, Any, int, Window | None, int | None],
        *,
        told: bool = True,
    ) -> None:
        """A limit is made now."""
        mode, unit, size, window, threshold = kind
        one = limit(
            name,
            mode=mode,
            unit=unit,
            max=maximum(unit, size),
            threshold_ppm=threshold,
            window=None if unit == "concurrent" else window,
            epoch=self.now_ms,
            created_ms=self.now_ms,
        )
        self.known[name] = one
        if told:
            self.define(one, 0)

    def define(self, one: Limit, proxy: int) -> None:
        """A proxy tells Redis what a limit is."""
        self.known[one.limit_id] = one
        self.run(self.ledger(proxy).define(one))
        self.books = define(self.books, one, self.now_ms)

    @rule(name=st.sampled_from("abc"), size=sizes, by=proxies)
    def resize(self, name: str, size: int, by: int) -> None:
        """A new max, higher or lower, holds from the next decision on; counters stay."""
        if name in self.books.limits:
            one = self.known[name]
            self.define(msgspec.structs.replace(one, max=maximum(one.unit, size)), by)

    @rule(name=st.sampled_from("abc"), by=proxies, later=st.sampled_from([1, 1, 0]))
    def reset(self, name: str, by: int, later: int) -> None:
        """A new epoch begins empty, and tells what the last one came to; not twice."""
        if name not in self.books.limits:
            return
        one = self.known[name]
        if one.window is not None and one.window.part_ms:
            later = 1  # than any part that calls were admitted into: so the API chooses it
        epoch = self.now_ms + later
        before = self.run(self.ledger(by).reset(one, epoch))
        self.books, expected = reset(self.books, one, epoch, self.now_ms)
        assert _same(before, expected), (before, expected)
        self.known[name] = msgspec.structs.replace(one, epoch=max(one.epoch, epoch))

    @rule(name=st.sampled_from("abc"), by=proxies)
    def look(self, name: str, by: int) -> None:
        """Who asks what is left is told of the window that is now."""
        if name not in self.books.limits:
            return
        [totals] = self.run(self.ledger(by).present((self.known[name],)))
        live = self.books.limits[name]
        live = present(live, self.now_ms) if live.limit.window is not None else live
        self.books = self.books.put(live)
        assert _same(totals, live.totals), (totals, live.totals)

    @rule(name=st.sampled_from("abc"), by=proxies)
    def evict(self, name: str, by: int) -> None:
        """Redis forgets a limit: rows and calls in flight tell what it had come to."""
        one = self.known[name]
        if name not in self.books.limits:
            return
        if one.unit == "concurrent" and one.epoch > one.created_ms:
            return  # a reset of it ends nothing, so its rows tell of what was before too
        key = PLACE.limit(name)
        self.ask(("DEL", key, f"{key};h", f"{key};w"))
        self.run(self.ledger(by).open((one,)))
        live = present(self.books.limits[name], self.now_ms)
        ends = {it: replace(its, ends_ms=self.now_ms) for it, its in live.holds.items()}
        for it, its in ends.items():
            call = self.books.calls[it]
            self.books = self.books.note(it, replace(call, shares={**call.shares, name: its}))
        self.books = self.books.put(replace(live, holds=ends))

    @precondition(lambda self: not self.deleted)
    @rule(name=st.sampled_from("abc"), by=proxies)
    def delete(self, name: str, by: int) -> None:
        """A limit is deleted, whoever has calls in flight on it."""
        self.deleted.add(name)
        self.run(self.ledger(by).forget(APPLICATION, name))
        self.books = forget(self.books, name)

    @precondition(lambda self: self.deleted)
    @rule(kind=kinds, told=st.booleans())
    def create_again(self, kind: Any, *, told: bool) -> None:
        """One that was deleted is made again under its id, later: it is another one. Redis is told
        by the first call that names it, at the latest."""
        self.passes(2)
        self.create(self.deleted.pop(), kind, told=told)

    # Time

    @rule(span_ms=spans)
    def wait(self, span_ms: int) -> None:
        """Windows end; whoever fell silent is due."""
        self.passes(span_ms)

    # Calls

    @rule(target=calls, some=st.lists(asked, min_size=1, max_size=4), after_ms=pauses)
    def reserve(self, some: list[Asked], after_ms: int) -> Any:
        """All limits of a call are decided together, all or nothing; of calls at once, in turn."""
        self.passes(after_ms)
        works = [self.reserving(it) for it in some if self.loaded(it)] or [self.reserving(some[0])]
        return self.admitted(self.at_once(works))

    def loaded(self, one: Asked) -> bool:
        """Whether Redis has all limits of a call: one that it has not, it is told a tick later."""
        return set(one.names) <= self.books.limits.keys() | self.deleted

    def admitted(self, verdicts: list[Any]) -> Any:
        """The records of what was admitted."""
        return multiple(*(it.record for it in verdicts if isinstance(it, Hold)))

    def reserving(self, one: Asked) -> Work:
        """One call, asked of the ledger of a proxy and of the rules."""
        proxy, names, likely, more, used, rated = one
        limits = [self.known[name] for name in names if name not in self.deleted]
        own = {it.limit_id for it in limits if it.limit_id in rated and it.unit == "usd"}
        bounds = Bounds(
            likely_pico=likely,
            ceiling_pico=likely + more,
            likely_tokens=used,
            ceiling_tokens=used + 10,
            limits={it: dearer(likely, likely + more) for it in own},
        )
        at_ms = self.now_ms + self.skews[proxy]
        number = next(self.numbers).to_bytes(10, "big")
        its = row(at_ms=at_ms, request_id=str(uuid7(at_ms, number)))
        record = PLACE.record(its.request_id, its.attempt)
        self.rated[record] = own

        def expected(books: Books) -> tuple[Books, Any]:
            after, refusals = rules.reserve(
                books,
                record,
                limits,
                bounds,
                now_ms=self.now_ms,
                ends_ms=self.now_ms + EXPECTED_MS,
                deadline_ms=self.now_ms + TTL_MS,
            )
            if refusals:
                return after, self.refusal(after, record, refusals, at_ms)
            return after, [(name, it.epoch) for name, it in after.calls[record].shares.items()]

        def read(verdict: Any) -> Any:
            if not isinstance(verdict, Hold):
                return verdict
            self.holds[record] = (verdict, proxy)
            return verdict.limits

        def ask() -> Awaitable[Any]:
            return self.ledger(proxy).reserve(its, limits, bounds, expected_ms=EXPECTED_MS)

        return Work(proxy, "reserve", ask, expected, read)

    def refusal(
        self, books: Books, record: str, refusals: tuple[Refusal, ...], at_ms: int
    ) -> Refused:
        """A refusal names who blocks, in numbers; it is final if money spent is the cause, unless
        all that refuse for good begin anew in a moment."""
        final = any(it.final for it in refusals)
        ends = [rules.half_end_ms(books.limits[it.limit_id]) for it in refusals]
        wait_ms = max([0, *(it - self.now_ms for it in ends if it is not None)])
        anew_ms = until_ms(refusals)
        soon = anew_ms is not None and anew_ms - at_ms <= WAIT_S_MAX * SECOND
        if soon and anew_ms is not None:
            wait_ms = max(wait_ms, anew_ms - at_ms)
        retryable = soon or not final
        return Refused(
            states={it.limit_id: it.state for it in books.calls[record].charges},
            blocked_limit_ids=tuple(it.limit_id for it in refusals),
            retryable=retryable,
            retry_after_s=min(WAIT_S_MAX, max(1, -(-wait_ms // 1000))) if retryable else 0,
            refusals=refusals,
        )

    @rule(call=calls, verb=verbs, truth=truths, floor=floors)
    def end(self, call: str, verb: Verb, truth: Truth, floor: Any) -> None:
        """The truth is charged once, whoever settles twice; after an expiry, as a correction."""
        self.beat(call, floor)
        self.at_once([self.ending(call, verb, truth)])

    @precondition(lambda self: self.running)
    @rule(
        some=st.lists(st.tuples(which, verbs, truths), min_size=1, max_size=4),
        more=st.lists(asked, max_size=3),
        target=calls,
    )
    def end_together(self, some: list[tuple[int, Verb, Truth]], more: list[Asked]) -> Any:
        """Calls that end in one tick are ended in turn, while others are admitted or not."""
        running = self.running
        ends = {it[0] % len(running): it for it in some}
        works = [self.ending(running[at], *it[1:]) for at, it in ends.items()]
        works += [self.reserving(it) for it in more if self.loaded(it)]
        return self.admitted(self.at_once(works))

    def ending(self, call: str, verb: Verb, truth: Truth) -> Work:
        """The end of a call, asked of the ledger that has it and of the rules."""
        hold, proxy = self.holds[call]
        if verb == "release":
            truth = Truth(0, 0, 0)
        own = {it: dearer(truth.into, truth.out) for it in self.rated[call] if verb == "settle"}
        its = msgspec.structs.replace(
            hold.row,
            status="ok",
            cost_pico=truth.into + truth.out,
            input_pico=truth.into,
            output_pico=truth.out,
            limit_costs=own,
        )
        used = Used(truth.into, truth.out, truth.used, own)

        def expected(books: Books) -> tuple[Books, Any]:
            if books.calls[call].status == "corrected":
                return books, ()
            after = rules.end(books, call, verb, used, now_ms=self.now_ms)
            return after, after.calls[call].charges

        def ask() -> Awaitable[Any]:
            ledger = self.ledger(proxy)
            if verb == "release":
                return ledger.release(hold, its)
            return ledger.settle(hold, its, truth.used)

        return Work(proxy, "settle", ask, expected, read_charges)

    @rule(
        names=names,
        verb=st.sampled_from(["settle", "release", "expire"]),
        truth=truths,
        by=proxies,
        ago_ms=st.sampled_from([0, MINUTE, HOUR]),
    )
    def replay(self, names: str, verb: Verb, truth: Truth, by: int, ago_ms: int) -> None:
        """A call that was admitted while Redis was away is charged when it is back, in the window
        of its admission."""
        limits = [self.known[name] for name in names if name in self.books.limits]
        at_ms = self.now_ms - ago_ms
        number = next(self.numbers).to_bytes(10, "big")
        into, out, used = truth if verb == "settle" else (truth.into, 0, truth.used)
        its = row(
            at_ms=at_ms,
            request_id=str(uuid7(at_ms, number)),
            cost_pico=into + out,
            input_pico=into,
            output_pico=out,
        )
        record = PLACE.record(its.request_id, its.attempt)
        pairs = [(it.limit_id, it.epoch_at(at_ms) if it.window else 0) for it in limits]

        def expected(books: Books) -> tuple[Books, Any]:
            after = rules.end(
                books, record, verb, Used(into, out, used), now_ms=self.now_ms, admitted=pairs
            )
            return after, after.calls[record].charges

        def ask() -> Awaitable[Any]:
            return self.ledger(by).apply(verb, its, pairs, used, "any")

        def read(done: Any) -> Any:
            return read_charges(done.charged)

        self.at_once([Work(by, "settle", ask, expected, read)])

    # Life of a hold

    @rule(call=calls, floor=floors)
    def beat(self, call: str, floor: Any) -> None:
        """A proxy keeps its calls alive; what is certain raises what is likely, never lowers it."""
        if floor is None:
            return
        hold, proxy = self.holds[call]
        pico, seen = floor
        own = {it: (dearer(pico, 0)[0], 0) for it in self.rated[call]}
        certain = Floor(pico, seen, own)
        hold.floor = lambda: certain
        self.beats(proxy)

    def beats(self, proxy: int) -> None:
        """A heartbeat of one proxy."""
        alive = self.live(proxy)
        self.run(self.ledger(proxy).heartbeat(0))
        for record in alive:
            certain = self.holds[record][0].floor()
            self.books = rules.beat(self.books, record, certain, self.now_ms + TTL_MS)

    @precondition(lambda self: self.running)
    @rule(it=which, dies=st.sampled_from([False, False, False, True]))
    def fall_silent(self, it: int, *, dies: bool) -> None:
        """Whoever was to end a call failed, or its proxy died with all its calls."""
        hold, proxy = self.holds[self.running[it % len(self.running)]]
        self.ledger(proxy).abandon(hold)
        if dies:
            self.ledger(proxy)._live.clear()

    @rule(target=gone, by=proxies)
    def reap(self, by: int) -> Any:
        """What is due is given up: charged its ceiling by hard caps, its floor by others. A proxy
        that is slow finds its calls given up by another, never by itself."""
        before = self.books
        self.books = rules.expire(before, self.now_ms, self.live(by))
        given_up = [it for it, call in self.books.calls.items() if call is not before.calls[it]]
        assert self.run(self.ledger(by).reap()) == len(given_up)
        return multiple(*given_up)

    @precondition(lambda self: self.running)
    @rule(target=gone, it=which, floor=floors, by=proxies)
    def give_up(self, it: int, floor: Any, by: int) -> Any:
        """One call falls silent, while the others go on."""
        self.beat(self.running[it % len(self.running)], floor)
        self.fall_silent(it, dies=False)
        self.passes(TTL_MS)
        for proxy in PROXIES:
            self.beats(proxy)
        return self.reap(by)

    @rule(call=gone, verb=verbs, truth=truths, anew=st.booleans())
    def wake(self, call: str, verb: Verb, truth: Truth, *, anew: bool) -> None:
        """The truth of a call that was given up comes after all, perhaps in another epoch."""
        if anew:
            for name in list(self.books.calls[call].shares)[:1]:
                self.reset(name, 0, 1)
        self.at_once([self.ending(call, verb, truth)])

    # What must be so after every step

    @invariant()
    def redis_is_as_the_rules_say(self) -> None:
        """Every counter, hold, deadline, row and record."""
        self.arena.steps += 1
        books, before = self.books, self.checked
        changed = [it for it, call in books.calls.items() if call is not before.calls.get(it)]
        fields, members, parts = [], [], []
        for name in "abc":
            key = PLACE.limit(name)
            fields.append(("HMGET", key, "is", "cnt"))
            members.append(("ZRANGE", f"{key};h", 0, -1, "WITHSCORES"))
            parts.append(("HGETALL", f"{key};w"))
        holds = ("ZRANGE", PLACE.holds, 0, -1, "WITHSCORES")
        entries = ("XRANGE", PLACE.outbox, self.seen if self.seen == "-" else f"({self.seen}", "+")
        records = [("HMGET", it, "st", "lim") for it in changed]
        found = self.ask(*fields, *members, *parts, holds, entries, *records)
        for at, name in enumerate("abc"):
            self.counters(books.limits.get(name), found[at], found[3 + at], found[6 + at])
        held = {it: call.deadline_ms for it, call in books.calls.items() if call.status == "held"}
        assert _scores(found[9]) == held
        self.rows(found[10], books.rows[len(before.rows) :])
        for record, its in zip(changed, found[11:], strict=True):
            self.record(books.calls[record], *its)
        self.checked = books

    def counters(self, live: Live | None, fields: Any, members: Any, parts: Any) -> None:
        """A limit's are the sum of its parts and of what is held, to the pico."""
        what, packed = fields
        if live is None:
            assert (what, len(members), len(parts)) == (None, 0, 0)
            return
        found = totals_of({b"is": what, b"cnt": packed})
        assert _same(found, live.totals), (found, live.totals)
        assert (what_is(what)[0], IS.unpack_from(what)[4]) == (live.limit.mode, live.part_ms)
        assert _scores(members) == {it: share.ends_ms for it, share in live.holds.items()}
        if not live.part_ms:
            assert len(parts) == 0

    def rows(self, entries: Any, expected: Sequence[Any]) -> None:
        """Every verdict has left one, by the script that moved the counters."""
        found = [(its[1].decode(), parse_charges(its[5])) for _, its in entries]
        assert sorted(found, key=repr) == sorted(expected, key=repr), (
            found,
            expected,
        )  # of proxies'
        if entries:
            self.seen = entries[-1][0].decode()

    def record(self, call: Call, status: bytes, text: bytes) -> None:
        """A call's says what it holds, later what it was charged."""
        assert status.decode() == {"corrected": "expired"}.get(call.status, call.status)
        if call.status == "held":
            assert _shares(text) == {name: _bare(its) for name, its in call.shares.items()}
        elif call.status != "corrected":
            assert parse_charges(text) == call.charges


def maximum(unit: str, size: int) -> int:
    """So much room for calls."""
    return size * {"usd": DOLLAR, "tokens": 40}.get(unit, 1)


def dearer(into: int, out: int) -> tuple[int, int]:
    """What a limit with own rates makes of two amounts in usd."""
    return into * 2 + 1, out * 3 + 2


def read_charges(charged: bytes | None) -> Any:
    """What a ledger says of the end of a call; None: that it went to the journal."""
    if charged is None:
        return None
    charges = parse_charges(charged)
    assert states_of(charged) == {it.limit_id: it.state for it in charges}
    return charges


def _in_runs(work: Sequence[Work], proxy: int) -> list[int]:
    """What a proxy asks, in the order in which Redis comes to it: all of a kind are one run."""
    mine = [at for at, it in enumerate(work) if it.proxy == proxy]
    kinds = list(dict.fromkeys(work[at].kind for at in mine))
    return sorted(mine, key=lambda at: kinds.index(work[at].kind))


def _same(found: Totals, expected: Totals) -> bool:
    """Whether totals are equal; a state that was never reached may be left out."""
    counts = {state: expected.counts.get(state, 0) for state in STATES}
    its = {state: found.counts.get(state, 0) for state in STATES}
    return msgspec.structs.replace(found, counts=its) == msgspec.structs.replace(
        expected, counts=counts
    )


def _scores(reply: Sequence[Any]) -> dict[str, int]:
    """A sorted set, from either reply shape."""
    flat = [it for pair in reply for it in pair] if reply and isinstance(reply[0], list) else reply
    return {name.decode(): int(float(score)) for name, score in zip(*[iter(flat)] * 2, strict=True)}


def _shares(text: bytes) -> dict[str, tuple[Any, ...]]:
    found = {}
    for part in text.decode().split(";")[:-1]:
        name, epoch, unit, mode, *numbers = part.split("|")
        lw, lp, cw, cp = map(int, numbers)
        likely, ceiling = amount(unit, lw, lp), amount(unit, cw, cp)  # type: ignore[arg-type]
        found[name] = (int(epoch), unit, mode, likely, ceiling)
    return found


def _bare(its: Share) -> tuple[Any, ...]:
    return its.epoch, its.unit, its.mode, its.likely, its.ceiling


async def _all(work: Iterable[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*work))
