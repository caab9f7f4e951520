"""The parts of a chat message as blocks: text, images, files.

A `data:` URL becomes its bytes and their type. What Anthropic's models cannot take is refused with
what they can; blocks of Anthropic's own pass as they are.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable

from msgspec import UNSET, Raw

from metering.errors import InvalidRequest
from metering.translate import reading
from metering.translate.anthropic.blocks import (
    Base64,
    Content,
    Document,
    Given,
    Image,
    Made,
    PlainText,
    Source,
    Text,
    Uploaded,
    Url,
)
from metering.translate.reading import Lost, is_list, is_object, is_text, missing, wrong

_POSSIBLE = "'text', 'image_url' or 'file': the models take no audio and no video"
_EMPTY, _AUTO = Raw(b'""'), Raw(b'"auto"')
_AS_IT_IS = Raw(b"")
_EPHEMERAL = Raw(b'{"type":"ephemeral"}')
PDF = "application/pdf"
NATIVE = frozenset(
    {
        *("image", "document", "search_result", "thinking", "redacted_thinking", "tool_use"),
        *("tool_result", "server_tool_use", "mcp_tool_use", "mcp_tool_result", "container_upload"),
        *("web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result"),
        *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
        *("tool_search_tool_result", "compaction", "fallback", "tool_reference"),
    }
)
"""Anthropic's own blocks, which pass as they are."""
_DATA = re.compile(rb"data:([\w.+-]+/[\w.+-]+)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
_MEDIA = {"image/jpg": "image/jpeg", "application/x-pdf": PDF}
_ENDINGS = {
    "pdf": PDF,
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
_TEXTS = ("application/json", "application/xml", "application/yaml")
_TEXT = frozenset({"type", "text", "refusal", "citations", "cache_control"})
_CACHED = frozenset({"type", "cache_control", "prompt_cache_breakpoint"})
_IMAGE = _CACHED | {"image_url"}
_FILE = _CACHED | {"file", "title", "context", "citations"}
_FILE_KNOWN = frozenset({"file_data", "file_id", "file_url", "filename", "mime_type", "format"})


Read = Callable[[dict[str, Raw], str, Lost], "Made | Raw | None"]
"""Reads a part: its block, None where it says nothing, `AS_IT_IS` where it is a block itself."""


def content(raw: Raw, path: str, lost: Lost, read: Read | None = None) -> Content:
    """The blocks of a content that is a string or a list of parts; empty texts are left out.

    `read` is how a part is read, if not as chats have them.
    """
    read = read or _block
    if is_text(raw):
        return [Text(raw)] if raw != _EMPTY else []
    if not is_list(raw):
        raise wrong(path, "a string or a list of content parts")
    found: Content = []
    given: list[Raw] = []
    for index, part in enumerate(reading.objects(raw, path)):
        block = read(part, f"{path}[{index}]", lost)
        if block is _AS_IT_IS:
            given = given or reading.items(raw, path)
            found.append(given[index])
        elif block is not None:
            found.append(block)
    return found


def texts(raw: Raw, path: str, lost: Lost, read: Read | None = None) -> list[Text]:
    """The same where only text may be: in system messages."""
    found = []
    for index, block in enumerate(content(raw, path, lost, read)):
        if not isinstance(block, Text):
            raise wrong(f"{path}[{index}].type", "'text': system messages have no other parts")
        found.append(block)
    return found


def cached(members: dict[str, Raw], path: str, lost: Lost) -> Given:
    """The `cache_control` of a part; OpenAI's own mark of a prefix becomes the plainest one."""
    given = members.get("cache_control")
    if given is None and "prompt_cache_breakpoint" in members:
        lost.change(f"{path}.prompt_cache_breakpoint")
        return _EPHEMERAL
    return UNSET if given is None else given


def _block(part: dict[str, Raw], path: str, lost: Lost) -> Made | Raw | None:
    if "type" not in part:
        raise missing(f"{path}.type", f"it is {_POSSIBLE}")
    kind = reading.text(part["type"], f"{path}.type")
    if kind in {"text", "refusal"}:
        return text_block(part, "refusal" if kind == "refusal" else "text", path, lost)
    if kind == "image_url":
        return _image(part, path, lost)
    if kind == "file":
        return _file(part, path, lost)
    if kind in NATIVE:
        return _AS_IT_IS
    raise wrong(f"{path}.type", _POSSIBLE)


def text_block(part: dict[str, Raw], name: str, path: str, lost: Lost) -> Text | None:
    """The block of a part whose text stands under this name; None where it says nothing."""
    given = part.get(name)
    if given is None:
        raise missing(f"{path}.{name}", "it is the part's text")
    if not is_text(given):
        raise wrong(f"{path}.{name}", "a string")
    lost.unknown(part, _TEXT | _CACHED, path)
    if given == _EMPTY:
        return None
    citations = part.get("citations", UNSET)
    return Text(given, citations=citations, cache_control=cached(part, path, lost))


def media_block(url: Raw, path: str, cache: Given = UNSET) -> Made:
    """The block of what a URL leads to, or has in it."""
    source, media = _source(url, path)
    return _made(source, media, cache, path)


def file_block(file: dict[str, Raw], path: str, cache: Given = UNSET) -> Made:
    """The block of a file: by its `file_data`, `file_url` or `file_id`."""
    source, media = _file_source(file, _hint(file, path), path)
    made = _made(source, media, cache, path)
    if isinstance(made, Document):
        made.title = file.get("filename", UNSET)
    return made


def _image(part: dict[str, Raw], path: str, lost: Lost) -> Made:
    place = f"{path}.image_url"
    given = part.get("image_url")
    if given is None:
        raise missing(place, "it is an object with the image's url")
    url = given
    if is_object(given):
        image = reading.members(given, place)
        place = f"{place}.url"
        if "url" not in image:
            raise missing(place, "it is where the image is, or a data: URL with it")
        url = image["url"]
        if image.get("detail", _AUTO) != _AUTO:
            lost.drop(f"{path}.image_url.detail")
    lost.unknown(part, _IMAGE, path)
    return media_block(url, place, cached(part, path, lost))


def _file(part: dict[str, Raw], path: str, lost: Lost) -> Made:
    if "file" not in part:
        raise missing(f"{path}.file", "it has file_data, file_id or file_url")
    file = reading.members(part["file"], f"{path}.file")
    lost.unknown(part, _FILE, path)
    lost.unknown(file, _FILE_KNOWN, f"{path}.file")
    made = file_block(file, f"{path}.file", cached(part, path, lost))
    if isinstance(made, Document):
        made.title = part.get("title", made.title)
        made.context = part.get("context", UNSET)
        made.citations = part.get("citations", UNSET)
    return made


def _hint(file: dict[str, Raw], path: str) -> str:
    """The type that the file is said to be of, or that its name ends in."""
    for name in ("mime_type", "format"):
        if name in file:
            return reading.text(file[name], f"{path}.{name}").lower()
    if "filename" not in file:
        return ""
    ending = reading.text(file["filename"], f"{path}.filename").rpartition(".")[2].lower()
    return _ENDINGS.get(ending, "")


def _file_source(file: dict[str, Raw], hint: str, path: str) -> tuple[Source, str]:
    if "file_id" in file:
        return Uploaded(file["file_id"]), hint or PDF
    if "file_url" in file:
        source, media = _source(file["file_url"], f"{path}.file_url")
        return source, media or hint or PDF
    if "file_data" not in file:
        raise missing(f"{path}.file_data", "or send file_id or file_url")
    place = f"{path}.file_data"
    if memoryview(file["file_data"])[1:6].tobytes().lower() == b"data:":
        return _source(file["file_data"], place)
    if not reading.text(file["file_data"], place):
        raise wrong(place, "base64 of the file, or a data: URL with it")
    return Base64(hint or PDF, file["file_data"]), hint or PDF


def _source(url: Raw, path: str) -> tuple[Source, str]:
    """What a URL leads to, and the media type that it states; empty: none."""
    if not is_text(url):
        raise wrong(path, "a string")
    quoted = bytes(url) if memoryview(url)[1:6].tobytes().lower() == b"data:" else b""
    if not quoted:
        if reading.text(url, path).lower().startswith(("http://", "https://")):
            return Url(url), ""
        raise wrong(path, "an http(s): URL, or a data: URL with base64")
    if b"\\" in quoted:  # as encoders that escape slashes write it
        quoted = reading.encode(reading.text(url, path))
    head = _DATA.match(quoted, 1)
    if head is None or head.end() == len(quoted) - 1:
        raise wrong(path, "of the form data:<type>/<subtype>;base64,<data>")
    media = head[1].decode().lower()
    return Base64(_MEDIA.get(media, media), Raw(b'"' + quoted[head.end() :])), media


def _made(source: Source, media: str, cache: Given, path: str) -> Made:
    """The block of a source; an image where no type was stated."""
    if isinstance(source, Base64):
        media = source.media_type
    if not media or media.startswith("image/"):
        return Image(source, cache_control=cache)
    if media == PDF or not isinstance(source, Base64):
        return Document(source, cache_control=cache)
    if media.startswith("text/") or media in _TEXTS:
        return Document(_plain(source, path), cache_control=cache)
    raise InvalidRequest(
        f"Request field '{path}' is of type {media}; send an image, a PDF or a text",
        code="invalid_request_field",
        field=path,
    )


def _plain(source: Base64, path: str) -> PlainText:
    try:
        data = b64decode(reading.text(source.data, path), validate=False)
        return PlainText(Raw(reading.encode(data.decode())))
    except (ValueError, binascii.Error):
        raise wrong(path, "base64 of a text in UTF-8") from None
