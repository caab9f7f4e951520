"""Reading the catalogue from the package's data files: the one place of pricing that does I/O."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from pricing.book import PriceBook
from pricing.catalogue import PriceDataError
from pricing.validation import parse

DATA = Path(__file__).parent / "data"
"""Where the shipped catalogue lives."""


def load(directory: Path = DATA) -> PriceBook:
    """Read every provider's file; a bad entry refuses the whole, naming file, entry and reason."""
    paths = sorted(directory.glob("*.json"))
    if not paths:
        raise PriceDataError(f"{directory}: there is no price data")
    contents = [path.read_bytes() for path in paths]
    files = [parse(content, path.name) for path, content in zip(paths, contents, strict=True)]
    providers = {file.provider for file in files}
    if len(providers) != len(files):
        raise PriceDataError(f"{directory}: two files are of the same provider")
    for file in files:
        for resold in file.resells:
            if resold.vendor not in providers:
                place = f"{directory}: {file.provider}"
                raise PriceDataError(f"{place} resells {resold.vendor}, which has no file")
    return PriceBook(files, sha256(b"".join(contents)).hexdigest()[:12])
