"""Reading the catalogue from the package's data files: the one place of pricing that does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pricing.book import PriceBook
from pricing.catalogue import PriceDataError, PriceFile
from pricing.validation import parse

DATA = Path(__file__).parent / "data"
"""Where the shipped catalogue lives."""


def read(directory: Path = DATA) -> dict[str, bytes]:
    """The bytes of every file of a catalogue, by name."""
    found = {path.name: path.read_bytes() for path in sorted(directory.glob("*.json"))}
    if not found:
        raise PriceDataError(f"{directory}: there is no price data")
    return found


def parse_all(contents: Mapping[str, bytes]) -> list[PriceFile]:
    """The files of a catalogue; a bad entry refuses the whole, naming file, entry and reason."""
    files = {name: parse(content, name) for name, content in contents.items()}
    names: dict[str, str] = {}
    for name, file in files.items():
        if names.setdefault(file.provider, name) != name:
            other = names[file.provider]
            raise PriceDataError(f"{name}: two files are of the same provider, and {other} is one")
    for name, file in files.items():
        for resold in file.resells:
            if resold.vendor not in names:
                place = f"{name}: {file.provider}"
                raise PriceDataError(f"{place} resells {resold.vendor}, which has no file")
    return list(files.values())


def put(uploaded: Mapping[str, bytes], contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """A catalogue with some files in place of those it has of the same providers.

    Files are named after their providers then; what is wrong with one has the name it came with.
    """
    providers = {name: parse(content, name).provider for name, content in uploaded.items()}
    if len(set(providers.values())) != len(providers):
        raise PriceDataError(f"{', '.join(providers)}: two files are of the same provider")
    return {
        **contents,
        **{f"{provider}.json": uploaded[name] for name, provider in providers.items()},
    }


def digest(contents: Mapping[str, bytes]) -> str:
    """What names the bytes of a catalogue: the same for the same files alone."""
    return sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:12]


def load(directory: Path = DATA) -> PriceBook:
    """Read every provider's file; a bad entry refuses the whole, naming file, entry and reason."""
    contents = read(directory)
    return PriceBook(parse_all(contents), digest(contents))
