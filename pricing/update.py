"""`python -m pricing.update`: bring the catalogue up to date, or say how it differs.

Reads the price lists where their makers keep them, else in their packages (nothing is executed),
and appends what is new. A list that is broken, has lost a fifth of its models, or moves a price
tenfold or to zero is refused, and with it the whole update. Where nobody can be reached, the
catalogue stays as it is.

    python -m pricing.update                  append what changed
    python -m pricing.update --accept MODEL   also this price that really moved: openai/gpt-4o
    python -m pricing.update --diff           print what would change
    python -m pricing.update --check          validate the files; print where the lists disagree
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from pricing.book import midnight_ms
from pricing.catalogue import PriceDataError, PriceFile, render
from pricing.changes import changes, refuse_absurd, table
from pricing.feeds import Taken, appended, read_log, refuse_shrunk
from pricing.fetch import Download, Feed, Get, Unreachable, download, fetch, get
from pricing.genai import genai_files
from pricing.listed import Listed
from pricing.litellm import litellm_list
from pricing.load import DATA, load
from pricing.merge import merge
from pricing.portkey import portkey_list
from pricing.report import disagreements, report
from pricing.sources import combine
from pricing.validation import parse

LOG, REPORT = "feeds.jsonl", "report.md"
_NOT_OF_THE_FORM = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError)
Content = TypeVar("Content")


class Sources(NamedTuple):
    """What the sources say today."""

    files: list[PriceFile]
    listed: list[Listed]
    taken: list[Taken]


class Result(NamedTuple):
    """What becomes of a provider's file."""

    path: Path
    before: PriceFile | None
    after: PriceFile
    changes: list[str]


def read_sources(feeds: Sequence[Feed], portkey: Feed, today: str) -> Sources:
    """A file for every provider that any of the lists knows."""
    genai, litellm = feeds
    known = _read(genai, lambda text, source: genai_files(text.decode(), source, today))
    second = _read(litellm, litellm_list)
    third = _read(portkey, portkey_list)
    listed = [*second, *third]
    others = sorted({item.provider for item in listed} - known.keys())
    vendors = {name: PriceFile(provider=name, pricing_urls=[], models=[]) for name in others}
    files: list[PriceFile] = []
    for file in sorted((vendors | known).values(), key=lambda file: len(file.resells) > 0):
        combined = combine(file, listed, files, today=today)
        if combined.models or file.provider in known:
            files.append(combined)
    priced = [row.prices for file in known.values() for e in file.models for row in e.prices]
    taken = [
        _taken(genai, sum(len(file.models) for file in known.values()), priced, today),
        _taken(litellm, len(second), [p for item in second for p in item.prices.values()], today),
        _taken(portkey, len(third), [p for item in third for p in item.prices.values()], today),
    ]
    return Sources(files, listed, taken)


def _read(feed: Feed, read: Callable[[bytes, str], Content]) -> Content:
    """What a list says; one of another form than we know is refused, not half read."""
    try:
        return read(feed.content, feed.source)
    except _NOT_OF_THE_FORM as error:
        raise PriceDataError(f"{feed.source} cannot be read: {error!r}") from error


def _taken(feed: Feed, models: int, prices: Sequence[dict[str, str]], today: str) -> Taken:
    return Taken(
        source=feed.source,
        models=models,
        prices=sum(len(units) for units in prices),
        sha256=sha256(feed.content).hexdigest(),
        checked=today,
    )


def main(
    arguments: Sequence[str] | None = None,
    *,
    data: Path = DATA,
    get: Get = get,
    download: Download = download,
    now: datetime | None = None,
) -> int:
    """Run the command; 0 unless price data, ours or theirs, is malformed or absurd."""
    parser = argparse.ArgumentParser("pricing.update", description=__doc__.partition("\n")[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="validate, and compare the lists")
    mode.add_argument("--diff", action="store_true", help="print what would change")
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="MODEL",
        help="a model (openai/gpt-4o) whose price really moved, or a list that really shrank",
    )
    options = parser.parse_args(arguments)
    today = (now or datetime.now(UTC)).date().isoformat()
    at_ms = midnight_ms(today)  # not the hour: prices of some hours would move the report
    try:
        if options.check:
            _say(f"the catalogue is valid: version {load(data).version}")
        sources = read_sources(*fetch(get, download), today)
        if options.check:
            return _check(data, sources, at_ms)
        return _update(data, sources, today, at_ms, options.accept, write=not options.diff)
    except PriceDataError as error:
        _say(f"refused, the catalogue stays as it is: {error}")
        return 1
    except Unreachable as error:
        _say(f"the sources are unreachable, the catalogue stays as it is: {error}")
        return 0


def _check(data: Path, sources: Sources, at_ms: int) -> int:
    files = [parse(path.read_bytes(), path.name) for path in sorted(data.glob("*.json"))]
    lines = disagreements(files, sources.listed, at_ms)
    for line in lines:
        _say(line)
    _say(f"{len(lines)} disagreements with the other lists")
    return 0


def _update(
    data: Path, sources: Sources, today: str, at_ms: int, accepted: Sequence[str], *, write: bool
) -> int:
    log_path = data / LOG
    log = read_log(log_path.read_bytes()) if log_path.exists() else []
    refuse_shrunk(log, sources.taken, accepted)
    results = [_merged(data, file, today, accepted) for file in sources.files]
    total = sum(len(result.changes) for result in results)
    if write:
        for result in results:
            _write(result.path, render(result.after))
        _write(log_path, appended(log, sources.taken))
        _write_report(data, sources, at_ms)
        for result in results:
            for line in result.changes:
                _say(f"{result.after.provider}: {line}")
    else:
        for line in table(c for result in results for c in changes(result.before, result.after)):
            _say(line)
    _say(f"{total} changes" if total else "nothing changed")
    return 0


def _merged(data: Path, theirs: PriceFile, today: str, accepted: Sequence[str]) -> Result:
    """What a provider's file becomes; what would not be valid, or is absurd, is refused."""
    path = data / f"{theirs.provider}.json"
    before = parse(path.read_bytes(), path.name) if path.exists() else None
    after, lines = merge(before, theirs, today)
    parse(render(after), path.name)
    refuse_absurd(before, after, accepted)
    return Result(path, before, after, lines)


def _write_report(data: Path, sources: Sources, at_ms: int) -> None:
    files = [parse(path.read_bytes(), path.name) for path in sorted(data.glob("*.json"))]
    taken = read_log((data / LOG).read_bytes())
    latest = {feed.name: feed for feed in taken}
    page = report(files, sources.listed, latest.values(), at_ms)
    _write(data / REPORT, page.encode())


def _write(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
