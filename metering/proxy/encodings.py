"""Compression we did not ask for, undone: in bounded pieces, or up to a size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

READABLE = (b"", b"identity", b"gzip", b"x-gzip", b"deflate")
"""What an answer may be encoded in to be read."""
INFLATED_BYTES = 64 * 1024
"""How much of a compressed stream is inflated at once."""


def inflater(encoding: bytes) -> zlib._Decompress | None:
    """What undoes a compression we did not ask for; None where there is none."""
    if encoding in (b"", b"identity"):
        return None
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


def inflated(inflate: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """Compressed bytes without their compression, in pieces of a bounded size."""
    while True:
        plain = inflate.decompress(data, INFLATED_BYTES)
        yield plain
        data = inflate.unconsumed_tail
        if not data and len(plain) < INFLATED_BYTES:  # else zlib may hold some back
            return


def decoded(body: bytes, encoding: bytes, bytes_max: int) -> bytes | None:
    """A body without its compression; None when that cannot be undone within a size."""
    inflate = inflater(encoding)
    if inflate is None:
        return body
    try:
        plain = inflate.decompress(body, bytes_max)
    except zlib.error:
        return None
    return plain if inflate.eof else None
