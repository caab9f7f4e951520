from __future__ import annotations

import asyncio
import base64
import lzma
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest

from metering import tokens

# What tiktoken publishes, by its own `expected_hash` of each .tiktoken file.
PUBLISHED = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_a_vocabulary_is_tiktokens_to_the_byte(name: str, published: str) -> None:
    """Unpacked and written in tiktoken's own format, a vocabulary has tiktoken's own hash."""
    ranks = tokens.unpack(name)
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    assert sha256(b"".join(lines)).hexdigest() == published


@pytest.mark.parametrize(
    ("text", "gpt_4", "gpt_4o"),
    [
        ("", 0, 0),
        ("Hello, world!", 4, 4),
        ("The quick brown fox jumps over the lazy dog.", 10, 10),
        ("日本語のテキスト", 8, 6),
        ("<|endoftext|>", 7, 7),
        ("a" * 1000, 125, 125),
        ("   \n\n  x", 3, 3),
    ],
)
def test_counts_are_tiktokens(text: str, gpt_4: int, gpt_4o: int) -> None:
    """Counts are those of tiktoken's encode_ordinary: special tokens in a text are plain text."""
    assert tokens.count(text, "gpt-4") == gpt_4
    assert tokens.count(text, "gpt-4o") == gpt_4o


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("gpt-4o", "o200k_base"),
        ("GPT-4o-mini", "o200k_base"),
        ("ft:gpt-4o-2024-08-06:org::id", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5.6-sol", "o200k_base"),
        ("o3", "o200k_base"),
        ("claude-opus-5", "o200k_base"),
        ("never-heard-of-it", "o200k_base"),
    ],
)
def test_a_model_has_an_encoding(model: str, encoding: str) -> None:
    """The longest prefix decides; what is not known is counted with the newest."""
    assert tokens.encoding_name(model) == encoding


async def test_counting_leaves_the_loop_by_size() -> None:
    """Small texts are counted in place, larger ones in a thread, huge ones are guessed."""
    await tokens.warm()
    assert await tokens.count_all(["Hello, world!"], "gpt-4o") == 4
    large = "word " * 20_000
    assert await tokens.count_all([large], "gpt-4o") == tokens.count(large, "gpt-4o")
    assert await tokens.count_all(["x" * (1024 * 1024 + 1)], "gpt-4o") == 349_526
    assert await tokens.count_all(["é" * (512 * 1024)], "gpt-4o") == 349_526


@pytest.mark.parametrize(
    ("texts", "threads"),
    [
        (["word " * 13_107], 0),  # a byte short of 64 KB
        (["word " * 13_108], 1),
        (["word " * 6_554, "more " * 6_554], 1),  # many small ones count as what they are together
        (["é" * 32_768], 1),  # in bytes, not in letters
        (["x" * tokens.GUESS_FROM_BYTES], 0),  # guessed, not counted
    ],
)
async def test_large_texts_are_counted_in_a_thread(
    texts: list[str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the loop goes on meanwhile: it is never held up for as long as counting takes."""
    await tokens.warm()
    monkeypatch.setattr(tokens, "_counted", tokens._Counted())
    counted_in: list[int] = []
    turns = 0
    count_new = tokens._count_new

    def watched(name: str, new: list[str]) -> int:
        counted_in.append(threading.get_ident())
        while threads and turns < 3:  # until the loop has gone on
            time.sleep(0.001)
        return count_new(name, new)

    monkeypatch.setattr(tokens, "_count_new", watched)
    counting = asyncio.ensure_future(tokens.count_all(texts, "gpt-4o"))
    while not counting.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert sum(it != threading.get_ident() for it in counted_in) == threads
    exact = sum(tokens.count(it, "gpt-4o") for it in texts if len(it) < tokens.GUESS_FROM_BYTES)
    assert counting.result() == (exact or -(-tokens.GUESS_FROM_BYTES // 3))


async def test_what_was_counted_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation comes again with each turn: only what is new is counted, to the same sum."""
    monkeypatch.setattr(tokens, "_counted", tokens._Counted())
    monkeypatch.setattr(tokens, "REMEMBERED_CHARACTERS", 2_000)
    await tokens.warm()
    turns = ["Hello, world!", "naïve café 🎉", "x" * 900, "Hello, world!", "", "y" * 900]

    for upto in range(len(turns) + 1):
        some = turns[:upto]
        expected = sum(tokens.count(turn, "gpt-4o") for turn in some)
        assert await tokens.count_all(some, "gpt-4o") == expected
        assert await tokens.count_all(some, "gpt-4o") == expected
        assert await tokens.count_all(some, "gpt-4") == sum(
            tokens.count(turn, "gpt-4") for turn in some
        )
    assert tokens._counted._characters <= 2_000


async def test_the_first_count_loads_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoding that is not loaded yet is loaded in the thread that counts."""
    monkeypatch.setattr(tokens, "_loaded", {})
    assert await tokens.count_all(["Hello, world, again!"], "gpt-4") == 6


@pytest.mark.parametrize("content", [None, b"", b"no xz"], ids=["missing", "empty", "garbage"])
def test_a_damaged_vocabulary_is_refused(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vocabulary that is not what was shipped is an error that names it, never a wrong count."""
    if content is not None:
        (tmp_path / "o200k_base.xz").write_bytes(content)
    monkeypatch.setattr(tokens, "VOCABULARY", tmp_path)
    with pytest.raises(tokens.VocabularyError, match="o200k_base"):
        tokens.unpack("o200k_base")


def test_a_changed_vocabulary_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid archive with other content fails its checksum."""
    (tmp_path / "o200k_base.xz").write_bytes(lzma.compress(b"other"))
    monkeypatch.setattr(tokens, "VOCABULARY", tmp_path)
    with pytest.raises(tokens.VocabularyError, match="not the one that was shipped"):
        tokens.unpack("o200k_base")
