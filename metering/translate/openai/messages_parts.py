"""One block of Anthropic's that shows or says something, as OpenAI's parts.

Bytes in base64 become data URLs. Files that lie with Anthropic, and documents by URL, cannot be
given to a model elsewhere: what it should have read would silently be missing.
"""

from __future__ import annotations

from msgspec import Raw

from metering.translate import reading
from metering.translate.openai import members
from metering.translate.openai.members import Fields
from metering.translate.reading import Lost

Parts = list[dict[str, object]]
"""Parts of a message, to be encoded."""

_UNTITLED = "document.pdf"
_ELSEWHERE = "is a file that lies with Anthropic, out of OpenAI's reach; send its bytes as base64"
_BY_URL = "is a document by URL, which OpenAI's form lacks; send its bytes as base64, or its text"


def texts(*given: Raw) -> Parts:
    """Parts of texts."""
    return [{"type": "text", "text": text} for text in given]


def part(kind: str, block: Fields, path: str, lost: Lost) -> Parts:
    """What a block says; nothing where it is of a kind that OpenAI has no part for."""
    read = _KINDS.get(kind)
    if read is None:
        lost.drop(path)
        return []
    parts = read(block, path, lost)
    members.drop_rest(lost, block, path)
    return parts


def _text(block: Fields, path: str, lost: Lost) -> Parts:  # noqa: ARG001
    return texts(members.need_text(block, "text", path, "send the text"))


def _image(block: Fields, path: str, lost: Lost) -> Parts:
    at = f"{path}.source"
    source = members.fields(block.pop("source", None), at)
    kind = members.take_word(source, "type", at)
    if kind == "base64":
        url = _data_url(source, at)
    elif kind == "url":
        url = members.need_text(source, "url", at, "send the image's URL")
    elif kind == "file":
        raise reading.untranslatable(at, _ELSEWHERE)
    else:
        raise reading.wrong(f"{at}.type", "base64 or url")
    members.drop_rest(lost, source, at)
    return [{"type": "image_url", "image_url": {"url": url}}]


def _document(block: Fields, path: str, lost: Lost) -> Parts:
    at = f"{path}.source"
    source = members.fields(block.pop("source", None), at)
    kind = members.take_word(source, "type", at)
    title = members.take_text(block, "title", path)
    context = members.take_text(block, "context", path)
    if kind == "base64":
        file = {"filename": title or _UNTITLED, "file_data": _data_url(source, at)}
        parts = _given(context)
        parts.append({"type": "file", "file": file})
    elif kind == "text":
        members.take(source, "media_type")
        data = members.need_text(source, "data", at, "send the document's text")
        parts = [*_given(title, context), *texts(data)]
    elif kind == "content":
        parts = [*_given(title, context), *_content(source, at, lost)]
    elif kind == "url":
        raise reading.untranslatable(at, _BY_URL)
    elif kind == "file":
        raise reading.untranslatable(at, _ELSEWHERE)
    else:
        raise reading.wrong(f"{at}.type", "base64, text or content")
    members.drop_rest(lost, source, at)
    return parts


def _search_result(block: Fields, path: str, lost: Lost) -> Parts:
    """A result of a search that the client made, as texts: where it is from, and what it says."""
    title = members.take_text(block, "title", path)
    source = members.take_text(block, "source", path)
    lost.change(path)
    return [*_given(title, source), *_content(block, path, lost)]


_KINDS = {"text": _text, "image": _image, "document": _document, "search_result": _search_result}


def _content(source: Fields, path: str, lost: Lost) -> Parts:
    """The parts of a content within a block: of texts and images."""
    content = source.pop("content", None)
    if content is None:
        raise reading.missing(f"{path}.content", "send a string or a list of blocks")
    if members.opening(content) == members.QUOTE:
        return texts(content)
    parts: Parts = []
    for index, block in enumerate(reading.objects(content, f"{path}.content")):
        at = f"{path}.content[{index}]"
        kind = members.take_word(block, "type", at)
        if kind in ("text", "image"):
            parts += part(kind, block, at, lost)
        else:
            raise reading.wrong(f"{at}.type", "text or image")
    return parts


def _given(*said: Raw | None) -> Parts:
    return texts(*(text for text in said if text is not None))


def _data_url(source: Fields, path: str) -> Raw:
    media_type = members.need_text(source, "media_type", path, "say what the bytes are")
    data = members.need_text(source, "data", path, "send the bytes in base64")
    return members.concat("data:", media_type, ";base64,", data)
