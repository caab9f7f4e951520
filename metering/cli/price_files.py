"""Price files that a command was given: read as they are, to be judged by the service."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pricing.catalogue import PriceDataError
from pricing.lines import line_of_error
from pricing.load import read


def texts(paths: Iterable[Path]) -> dict[str, str]:
    """The text of files, and of all price files of directories, by name.

    PriceDataError names the file that cannot be read, and the line that is no text.
    """
    found: dict[str, str] = {}
    for path in paths:
        for name, content in _read(path).items():
            if name in found:
                raise PriceDataError(f"{name} is given twice")
            found[name] = _text(name, content)
    return found


def _read(path: Path) -> dict[str, bytes]:
    try:
        return read(path) if path.is_dir() else {path.name: path.read_bytes()}
    except OSError as error:
        raise PriceDataError(f"{path} cannot be read: {error.strerror}") from None


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PriceDataError(f"{name}:{line_of_error(content, error)}: {error}") from None
