"""Reading the catalogue from the package's data files: the one place of pricing that does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pricing.book import PriceBook
from pricing.catalogue import PriceDataError, PriceFile, in_force
from pricing.lines import Steps, line_of
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
    names = _by_provider(contents, files)
    for name, file in files.items():
        for index, resold in enumerate(file.resells):
            if resold.vendor not in names:
                line = line_of(contents[name], ("resells", index))
                raise PriceDataError(
                    f"{name}:{line}: {file.provider} resells {resold.vendor}, which has no file"
                )
    return list(files.values())


def _by_provider(
    contents: Mapping[str, bytes], files: Mapping[str, PriceFile]
) -> Mapping[str, str]:
    """The names of files by their providers, of which each has one."""
    names: dict[str, str] = {}
    for name, file in files.items():
        if (other := names.setdefault(file.provider, name)) != name:
            line = line_of(contents[name], ("provider",))
            raise PriceDataError(
                f"{name}:{line}: two files are of the same provider, and {other} is one"
            )
    return names


def put(uploaded: Mapping[str, bytes], contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """A catalogue with some files in place of those it has of the same providers.

    Files are named after their providers then; what is wrong with one has the name it came with.
    """
    files = {name: parse(content, name) for name, content in uploaded.items()}
    names = _by_provider(uploaded, files)
    return {**contents, **{f"{owner}.json": uploaded[name] for owner, name in names.items()}}


def place_in(contents: Mapping[str, bytes], model: str, day: str, service_tier: str) -> str:
    """`openai.json:812`: where files have the price that a model, `provider/id`, has on a day.

    `provider fees` are where the fees begin; what is resold is where its vendor's file has it. Of
    a model that is gone it is the file alone; empty if it is none of these files' business.
    """
    files = {name: parse(content, name) for name, content in contents.items()}
    owner, _, entry_id = model.removesuffix(" fees").partition("/")
    own = next((name for name, file in files.items() if file.provider == owner), "")
    sold = {resold.vendor for resold in files[own].resells} if own else None
    vendors = [it for it, file in files.items() if sold is None or file.provider in sold]
    for name in filter(None, [own, *(vendors if entry_id else ())]):
        if path := _path_of(files[name], entry_id, day, service_tier):
            return f"{name}:{line_of(contents[name], path)}"
    return own


def _path_of(file: PriceFile, entry_id: str, day: str, service_tier: str) -> Steps:
    """Of an entry's row in force, else of the entry; of the fees where there is no id."""
    if not entry_id:
        return ("fees",) if file.fees else ()
    for index, entry in enumerate(file.models):
        if entry.id == entry_id:
            of_tier = [row for row in entry.prices if row.service_tier == service_tier]
            begun = in_force(of_tier, day)
            row: Steps = ("prices", entry.prices.index(begun[-1])) if begun else ()
            return ("models", index, *row)
    return ()


def digest(contents: Mapping[str, bytes]) -> str:
    """What names the bytes of a catalogue: the same for the same files alone."""
    return sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:12]


def load(directory: Path = DATA) -> PriceBook:
    """Read every provider's file; a bad entry refuses the whole, naming file, entry and reason."""
    contents = read(directory)
    return PriceBook(parse_all(contents), digest(contents))
