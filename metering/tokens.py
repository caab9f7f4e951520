"""Counting tokens, offline: vocabularies are shipped, checked, and loaded when first needed.

Exact for text of OpenAI's models; for others an estimate that `core.estimate` corrects by what it
learns. The byte length of a text bounds its tokens, whatever the model.
"""

from __future__ import annotations

import asyncio
import lzma
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tiktoken import Encoding

VOCABULARY = Path(__file__).parent / "vocabulary"
THREAD_FROM_BYTES = 64 * 1024
"""From this size on, counting leaves the event loop (it releases the GIL): about 3 ms."""
GUESS_FROM_BYTES = 1024 * 1024
"""From this size on, tokens are guessed from the size."""
GUESSED_BYTES_PER_TOKEN = 3
REMEMBERED_CHARACTERS = 8 * 1024 * 1024
"""So much text is remembered with its count."""
REMEMBERED_OVERHEAD = 200
"""What remembering a text takes beside its characters, in bytes."""


class VocabularyError(RuntimeError):
    """A vocabulary file of this installation is damaged."""


class _Vocabulary(NamedTuple):
    tokens: int
    sha256: str
    """Of the unpacked file: a length byte per token, then the tokens."""
    pattern: str
    """How text is cut into words before pairs are merged."""
    special: dict[str, int]


_VOCABULARIES = {
    "cl100k_base": _Vocabulary(
        tokens=100_256,
        sha256="18288f996f452d44e0e65996176591a4b712a3eb1b42afd6f0511e735c099480",
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++"
            r"[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        special={
            "<|endoftext|>": 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            "<|endofprompt|>": 100_276,
        },
    ),
    "o200k_base": _Vocabulary(
        tokens=199_998,
        sha256="440741350e7cfa1c0f4869ce742d1b043550adbda5187adcac9e787edac6fba9",
        pattern=(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
            r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        special={"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018},
    ),
}
DEFAULT_ENCODING = "o200k_base"
# The longest prefix decides. Newer models, and other vendors' for want of better, are o200k.
_PREFIXES = {
    "gpt-3.5": "cl100k_base",
    "gpt-35": "cl100k_base",
    "gpt-4": "cl100k_base",
    "gpt-4o": "o200k_base",
    "gpt-4.": "o200k_base",
    "text-embedding": "cl100k_base",
    "text-davinci": "cl100k_base",
    "davinci-002": "cl100k_base",
    "babbage-002": "cl100k_base",
}
_BY_LENGTH = sorted(_PREFIXES, key=len, reverse=True)
_loaded: dict[str, Encoding] = {}
_loading = Lock()


@lru_cache(maxsize=1024)
def encoding_name(model: str) -> str:
    """The encoding of a model; a fine-tuned one (`ft:`) has its base's."""
    name = model.lower().removeprefix("ft:")
    prefix = next((prefix for prefix in _BY_LENGTH if name.startswith(prefix)), "")
    return _PREFIXES.get(prefix, DEFAULT_ENCODING)


def count(text: str, model: str) -> int:
    """The tokens of a text: about 20 MB/s; the first call of an encoding loads it (0.1 to 0.2 s).

    What looks like a special token in the text is counted as the plain text it is.
    """
    return len(_encoding(encoding_name(model)).encode_ordinary(text))


async def count_all(texts: Iterable[str], model: str) -> int:
    """The tokens of several texts without holding up the event loop; of huge ones, a guess.

    What was counted a while ago is remembered: conversations come again with every turn of theirs.
    """
    name = encoding_name(model)
    total, new, size = 0, [], 0
    for text in texts:
        known = _counted.get(name, text)
        if known is None:
            new.append(text)
            size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        else:
            total += known
    if not new:
        return total
    if size >= GUESS_FROM_BYTES:
        return total + -(-size // GUESSED_BYTES_PER_TOKEN)
    if size < THREAD_FROM_BYTES and name in _loaded:
        return total + _count_new(name, new)
    return total + await asyncio.to_thread(_count_new, name, new)


def _count_new(name: str, texts: list[str]) -> int:
    total = 0
    for text in texts:
        tokens = len(_encoding(name).encode_ordinary(text))
        _counted.keep(name, text, tokens)
        total += tokens
    return total


class _Counted:
    """The counts of texts seen lately: bounded in memory, forgotten all at once when it is full."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._characters = 0

    def get(self, name: str, text: str) -> int | None:
        """The tokens of a text in an encoding, if remembered."""
        return self._counts.get((name, text))

    def keep(self, name: str, text: str, tokens: int) -> None:
        """Remember a count."""
        size = len(text) + REMEMBERED_OVERHEAD
        if self._characters + size > REMEMBERED_CHARACTERS:
            self._counts, self._characters = {}, 0
        self._counts[name, text] = tokens
        self._characters += size


_counted = _Counted()


async def warm() -> None:
    """Load every encoding, off the event loop, so that no call waits for it."""
    for name in _VOCABULARIES:
        await asyncio.to_thread(_encoding, name)


def unpack(name: str) -> dict[bytes, int]:
    """Rank by token of a vocabulary; VocabularyError if the file is not what was shipped."""
    expected = _VOCABULARIES[name]
    try:
        content = lzma.decompress((VOCABULARY / f"{name}.xz").read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise VocabularyError(f"{name}: {error}") from error
    if sha256(content).hexdigest() != expected.sha256:
        raise VocabularyError(f"{name}: the file is not the one that was shipped; reinstall")
    ends = accumulate(content[: expected.tokens], initial=expected.tokens)
    sizes = content[: expected.tokens]
    return {
        content[start : start + size]: rank
        for rank, (start, size) in enumerate(zip(ends, sizes, strict=False))
    }


def _encoding(name: str) -> Encoding:
    encoding = _loaded.get(name)
    if encoding is None:
        with _loading:  # two threads must not both pay for it
            encoding = _loaded.get(name) or _load(name)
            _loaded[name] = encoding
    return encoding


def _load(name: str) -> Encoding:
    vocabulary = _VOCABULARIES[name]
    return Encoding(
        name,
        pat_str=vocabulary.pattern,
        mergeable_ranks=unpack(name),
        special_tokens=vocabulary.special,
    )
