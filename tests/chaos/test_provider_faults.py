"""Providers that fail in 24 ways: what clients get, what rows say, and that the books agree.

Each class of `provider_faults` meets every endpoint, whole and as a stream (embeddings have none),
50 times at full size. The stand-in's books, the rows and the live counters are then compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.chaos.audit import by_call, check_sums, records_of
from tests.chaos.load import HEALTHY, KINDS, Form, Seen, Target, request, twelve
from tests.chaos.provider_faults import FAULTS, NO_CARRIER, Case, Claim, Fault
from tests.chaos.rig import PATIENT, Rig, charges_of, resident_kb
from tests.standin.ledger import Entry

IDLE_S = 4
"""How long the service bears a provider's silence."""
AT_ONCE = {"many": 24, "waiting": 64, "heavy": 4, "alone": 24}
REPEATS = 50
OUR_RESULT = b',"xproxy_result":'
OUR_MEMBERS = b',"message":"The downstream provider'
EMPTY = hashlib.sha256().hexdigest()
RESIDENT_KB_MAX = 96 * 1024
"""How much the worker may grow by the whole run."""


@dataclass
class Given:
    """What a client got."""

    status: int | None
    headers: httpx.Headers
    whole: bool
    results: int
    """How many times our result was in it."""
    sha256: str
    """Of what is left of the body without our members."""
    error: dict[str, Any] = field(default_factory=dict)
    """The body of an answer that is no success."""


@dataclass
class Made:
    """One call of the run."""

    tag: str
    case: Case
    form: Form
    stream: bool
    given: Given

    @property
    def claim(self) -> Claim:
        """What was to become of it."""
        claim = self.case.claim(self.form.name, stream=self.stream)
        assert claim is not None
        return claim


@dataclass
class Run:
    """All calls of all classes, and everybody's books."""

    made: dict[str, list[Made]]
    """By class."""
    healthy: list[Seen]
    entries: dict[str, Entry]
    """The provider's, by tag."""
    rows: dict[str, dict[str, Any]]
    """Ours, by tag."""
    rig: Rig
    application_id: str
    grown_kb: int
    took_s: float


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, full: bool) -> Iterator[Run]:  # noqa: FBT001
    """Every class, every endpoint, whole and streamed."""
    folder = tmp_path_factory.mktemp("faults")
    with Rig(folder, outlive=False, XPROXY_PROVIDER_IDLE_S=str(IDLE_S), **PATIENT) as rig:
        application_id, target = rig.tenant()
        asyncio.run(twelve(target, "before"))
        kb_before, began_s = resident_kb(rig.worker), time.monotonic()
        made = asyncio.run(faults(target, rig, REPEATS if full else 0))
        grown_kb, took_s = resident_kb(rig.worker) - kb_before, time.monotonic() - began_s
        well = asyncio.run(twelve(target, "after"))
        rig.quiet()
        records = by_call(records_of(rig, application_id))
        assert all(set(its) == {"call"} for its in records.values()), "a correction"
        calls = [its["call"] for its in records.values()]
        rows = {tag: row for row in calls for tag in json.loads(row["tags"])}
        assert len(rows) == len(calls), "a call with two rows"
        entries = {entry.tag or "": entry for entry in rig.standin.ledger()}
        assert len(entries) == len(rig.standin.ledger()), "a call was made twice"
        yield Run(made, well, entries, rows, rig, application_id, grown_kb, took_s)


async def faults(target: Target, rig: Rig, repeats: int) -> dict[str, list[Made]]:
    """Every class so many times, at least each of its cases once."""
    made: dict[str, list[Made]] = {}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:

        async def some(pace: str) -> None:
            gate = asyncio.Semaphore(AT_ONCE[pace])
            chosen = [it for it in FAULTS if it.pace == pace]
            its = await asyncio.gather(*(one(client, target, it, gate, repeats) for it in chosen))
            made.update({fault.name: calls for fault, calls in zip(chosen, its, strict=True)})

        await asyncio.gather(some("many"), some("waiting"))
        await some("heavy")
        rig.standin.stop()
        await some("alone")
        rig.standin.start()
    return made


async def one(
    client: httpx.AsyncClient, target: Target, fault: Fault, gate: asyncio.Semaphore, repeats: int
) -> list[Made]:
    """One class."""

    async def make(tag: str, case: Case, form: Form, *, stream: bool) -> Made:
        async with gate:
            given = await ask(client, target, tag, case.told, form, stream=stream)
            return Made(tag, case, form, stream, given)

    calls = []
    for form, stream in KINDS:
        cases = [it for it in fault.cases if it.claim(form.name, stream=stream)]
        for number in range(max(repeats, len(cases))):
            tag = f"{fault.name}-{form.name}-{stream}-{number}".replace(" ", "_")
            case = cases[number % len(cases)]
            calls.append(make(tag.replace(",", ""), case, form, stream=stream))
    return list(await asyncio.gather(*calls))


async def ask(
    client: httpx.AsyncClient,
    target: Target,
    tag: str,
    told: dict[str, Any],
    form: Form,
    *,
    stream: bool,
) -> Given:
    """Make one call, see it to its end, and keep what the claims are about."""
    headers, body = request(target, tag, told, form, stream=stream)
    if stream and form.name == "chat":
        body["stream_options"] = {"include_usage": True}
    got, whole, status, its = bytearray(), False, None, httpx.Headers()
    try:
        url = target.url + form.path
        async with client.stream("POST", url, headers=headers, json=body) as response:
            status, its = response.status_code, response.headers
            async for piece in response.aiter_raw():
                got += piece
            whole = True
    except httpx.HTTPError:
        assert status is not None, f"{tag}: no answer at all"
    plain = bytes(got)
    for _ in its.get("content-encoding", "").split("gzip")[1:]:
        plain = zlib.decompress(plain, 31) if plain[:2] == b"\x1f\x8b" else plain
    results = plain.count(OUR_RESULT)
    error = json.loads(plain) if status != 200 else {}
    digest = hashlib.sha256(without_ours(plain, error=bool(error))).hexdigest()
    return Given(status, its, whole, results, digest, error)


def without_ours(body: bytes, *, error: bool) -> bytes:
    """The provider's bytes: of an answer without our result, or of an error without our members."""
    if error:
        rest, ours, _ = body.partition(OUR_MEMBERS)
        return rest + b"}" if ours else rest
    start = body.find(OUR_RESULT)
    if start < 0:
        return body
    text = body[start + len(OUR_RESULT) :][:20_000].decode("latin-1")
    _, end = json.JSONDecoder().raw_decode(text)
    return body[:start] + body[start + len(OUR_RESULT) + end :]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda it: it.name.replace(" ", "-"))
def test_what_becomes_of_a_call(run: Run, fault: Fault) -> None:
    """Each claim of the class holds for each of its calls."""
    for made in run.made[fault.name]:
        why = f"{made.tag} {made.case.told}"
        check_client(made, run.entries.get(made.tag), why)
        check_row(made.claim, run.rows[made.tag], run.entries.get(made.tag), why)


def check_client(made: Made, entry: Entry | None, why: str) -> None:
    """What the client got."""
    claim, given = made.claim, made.given
    assert given.status == claim.status, f"{why}: {given.status} {given.error}"
    assert given.whole == (claim.relayed not in ("cut", "none")), why
    if claim.relayed in ("whole", "cut"):
        assert entry is not None, why
        carried = claim.cost == "bill" and (made.stream or made.case.told not in NO_CARRIER)
        assert given.results == 1 or (given.results == 0 and not carried), why
        assert given.sha256 == entry.answer_sha256, f"{why}: other bytes than the provider's"
    elif claim.relayed == "none":
        assert given.sha256 == EMPTY, why
    else:
        assert given.error["xproxy_error"]["code"] == "provider_error", why
        assert given.error["statusCode"] == claim.status, why
    if claim.relayed == "ours":
        retry = given.headers["x-should-retry"] == "true"
        assert retry == (entry is None), f"{why}: a retry may be paid twice"
    if claim.relayed == "error":
        assert entry is not None, why
        assert "x-should-retry" not in given.headers, why
        assert (claim.status == 429) == ("retry-after" in given.headers), why
        if set(made.case.told) == {"status"}:
            assert given.sha256 == entry.answer_sha256, f"{why}: other bytes than the provider's"


def check_row(claim: Claim, row: Any, entry: Entry | None, why: str) -> None:
    """What the row says, and what it charged each limit."""
    billed = (entry.cost_pico or 0) if entry is not None else 0
    charged = {
        limit_id: amount for limit_id, _, unit, amount, _ in charges_of(row) if unit == "usd"
    }
    assert row["status"] == claim.row, f"{why}: {row['status']}"
    assert row["http_status"] == claim.status, why
    assert row["estimated"] == (claim.cost in ("estimate", "floor") or claim.row == "unresolved"), (
        why
    )
    if claim.cost == "bill":
        assert row["cost_pico"] == billed, f"{why}: {row['cost_pico']} != {billed}"
    elif claim.cost == "nothing":
        assert row["cost_pico"] == 0, why
    else:
        assert row["cost_pico"] > 0, why
    assert charged["open"] == charged["wide"] == row["cost_pico"], f"{why}: {charged}"
    if claim.row == "unresolved":
        assert charged["hard"] >= max(billed, row["cost_pico"] + 1), f"{why}: {charged}"
    else:
        assert charged["hard"] == row["cost_pico"], f"{why}: {charged}"


def test_the_next_calls_are_as_ever(run: Run) -> None:
    """No slot of any pool is lost: twelve of twelve are answered whole."""
    assert [it.status for it in run.healthy] == [200] * HEALTHY
    assert all(it.whole and it.cost_pico for it in run.healthy)


def test_the_books_agree(run: Run) -> None:
    """One row a call; rows that are no estimates sum up to the bills; counters to the rows."""
    made = [it for its in run.made.values() for it in its]
    names = {it.tag for it in made} | {
        f"{it}-{n}" for it in ("before", "after") for n in range(HEALTHY)
    }
    assert run.rows.keys() == names
    assert run.entries.keys() == names - {it.tag for it in run.made[FAULTS[0].name]}
    check_sums(run.rig, run.application_id, list(run.rows.values()))
    exact = [tag for tag, row in run.rows.items() if row["status"] == "ok" and not row["estimated"]]
    ours = sum(run.rows[tag]["cost_pico"] for tag in exact)
    theirs = sum(run.entries[tag].cost_pico or 0 for tag in exact)
    assert ours == theirs
    print(f"\n{len(made)} calls in {run.took_s:.0f} s, {run.grown_kb:+} kB")
    kinds = Counter((row["status"], bool(row["estimated"])) for row in run.rows.values())
    for (status, estimated), count in sorted(kinds.items()):
        tags = [
            t for t, r in run.rows.items() if (r["status"], r["estimated"]) == (status, estimated)
        ]
        charged = sum(run.rows[tag]["cost_pico"] for tag in tags)
        billed = sum(run.entries[tag].cost_pico or 0 for tag in tags if tag in run.entries)
        print(f"{status}, estimated {estimated}: {count} rows, {charged} of {billed} pico billed")
    assert run.grown_kb < RESIDENT_KB_MAX
