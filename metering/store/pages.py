"""Pages by keyset: a cursor says which item came last, so that inserts never shift a page."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

Item = TypeVar("Item")
PAGE_SIZE = 100
PAGE_SIZE_MAX = 1_000


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """Some items, and the cursor of the next page; None: this was the last."""

    items: tuple[Item, ...]
    cursor: str | None = None


def size(wanted: int | None) -> int:
    """How many items a page has: what is not positive asks for the default."""
    return min(wanted, PAGE_SIZE_MAX) if wanted is not None and wanted > 0 else PAGE_SIZE


def write_cursor(*position: int | str) -> str:
    """The opaque form of an item's sort key."""
    return urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_cursor(cursor: str | None, *types: type) -> tuple[int | str | None, ...]:
    """The sort key in a cursor; Nones, so the first page, if it is not one of ours."""
    if cursor:
        try:
            text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            return msgspec.json.decode(text, type=tuple[types])  # type: ignore[valid-type]
        except (ValueError, msgspec.MsgspecError):
            pass
    return (None,) * len(types)


def cut(
    items: list[Item], page_size: int, position: Callable[[Item], tuple[int | str, ...]]
) -> Page[Item]:
    """A page of items that were fetched with one more than asked; `position` is an item's key."""
    kept = tuple(items[:page_size])
    return Page(kept, write_cursor(*position(kept[-1])) if len(items) > page_size else None)
