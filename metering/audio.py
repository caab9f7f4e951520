"""How long a recording lasts, from its own header: what transcripts and speech are estimated by."""

from __future__ import annotations

import asyncio
from decimal import ROUND_CEILING, Decimal
from io import BytesIO

from tinytag import TinyTag

GUESSED_BYTES_PER_S = 16_000
"""Of a recording that cannot be read: 128 kbit/s, as speech is made by default."""
THREAD_FROM_BYTES = 64 * 1024
"""From this size on, reading leaves the event loop: some formats are read to their end."""


async def seconds(recording: bytes) -> int:
    """The whole seconds that a recording has begun; of one without a readable header, a guess."""
    if len(recording) < THREAD_FROM_BYTES:
        return _seconds(recording)
    return await asyncio.to_thread(_seconds, recording)


def _seconds(recording: bytes) -> int:
    try:
        # without a name, the format is known by its first bytes
        read = TinyTag.get(file_obj=BytesIO(recording), tags=False, image=False).duration
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes lead its parsers to
        read = None
    if not read or not 0 < read < len(recording):  # a header may say anything
        return -(-len(recording) // GUESSED_BYTES_PER_S)
    return int(Decimal(read).to_integral_value(ROUND_CEILING))
