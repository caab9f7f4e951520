"""A strict reader of HTTP/1.1 requests, after RFC 9112 and RFC 9110. It shares no parser with us.

Of what two servers could read in two ways it reads nothing. `TOLERATED` is the little that our
server may take nevertheless, and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TOLERATED = {
    "blank lines": "CR and LF before a request line are no part of any message (RFC 9112, 2.2)",
    "spaces": "several spaces between the words of a request line (RFC 9112, 3, allows it); what "
    "goes upstream has one",
    "RTSP": "GET, POST and OPTIONS of `RTSP/1.0` and `RTSP/1.1` are read as those of HTTP, since "
    "the parser does not tell; they are framed alike, and HTTP/1.1 goes upstream",
    "fragments": "`#` and what follows is cut off; it never goes upstream",
    "chunk extensions": "their grammar is not checked, but no control character is in them; they "
    "never go upstream",
}
Field = tuple[bytes, bytes]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-\"$-~]+) HTTP/1\.([01])")
_LOOSE_LINE = re.compile(rb"(" + _TOKEN + rb") +([!-~]+) +(?:HTTP|RTSP)/1\.([01])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t -~\x80-\xff]*)")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)[!-~]*")
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSION = (
    rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
)
_SIZE = re.compile(rb"0*([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*")
_LOOSE_SIZE = re.compile(rb"0*([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_LENGTH = re.compile(rb"0*[0-9]{1,19}")
_METHODS = (b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT")
"""No tunnel, which nobody offers, and no echo, which would show what a proxy has added."""


class Malformed(Exception):
    """These bytes are no request, or could be read as another."""


class _Incomplete(Exception):
    """More bytes are needed."""


@dataclass(frozen=True)
class Request:
    """One whole request. Names of fields are in lower case, values are trimmed."""

    method: bytes
    target: bytes
    fields: tuple[Field, ...]
    body: bytes
    closes: bool
    """Whether nothing may follow it on its connection."""
    raw: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for it, value in self.fields if it == name]


class Reader:
    """Reads the bytes of one connection as they come."""

    def __init__(self, *, tolerant: bool = False) -> None:
        """`tolerant`: take what `TOLERATED` lists."""
        self.requests: list[Request] = []
        self.problem: str | None = None
        """Why nothing after the last request can be read."""
        self.rest = b""
        """What is no whole request yet."""
        self.begun: Request | None = None
        """A request whose head is whole while its body is not."""
        self._tolerant = tolerant

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes; gives the requests that are whole with them."""
        self.rest += data
        before = len(self.requests)
        while self.problem is None and self.rest and not self.closed:
            try:
                request, end = self._request()
            except _Incomplete:
                break
            except Malformed as why:
                self.problem = str(why)
                break
            if request is not None:
                self.requests.append(request)
            self.rest = self.rest[end:]
        return self.requests[before:]

    @property
    def closed(self) -> bool:
        """Whether the last request said that nothing follows."""
        return bool(self.requests) and self.requests[-1].closes

    def _request(self) -> tuple[Request | None, int]:
        """The request that `rest` begins with and its end; None for blank lines."""
        blank = re.match(rb"[\r\n]+" if self._tolerant else rb"(?:\r\n)+", self.rest)
        if blank:
            return None, blank.end()
        line, at = self._line(0)
        found = (_LOOSE_LINE if self._tolerant else _LINE).fullmatch(line)
        if found is None:
            raise Malformed("no request line")
        method, target, minor = found.groups()
        fields, at = self._fields(at)
        request = Request(method, target, tuple(fields), b"", closes=False, raw=b"")
        _check(request, minor)
        self.begun = request
        body, at = self._body(request, at)
        self.begun = None
        closes = _closes(request.values(b"connection"), minor)
        return Request(method, target, tuple(fields), body, closes, self.rest[:at]), at

    def _line(self, at: int) -> tuple[bytes, int]:
        """A line without its end, and where the next begins."""
        end = self.rest.find(b"\n", at)
        if end < 0:
            raise _Incomplete
        if not self.rest.startswith(b"\r", end - 1) or end == at:
            raise Malformed("a line ends in LF alone")
        return self.rest[at : end - 1], end + 1

    def _fields(self, at: int) -> tuple[list[Field], int]:
        """Fields up to the empty line after them."""
        fields: list[Field] = []
        while True:
            line, at = self._line(at)
            if not line:
                return fields, at
            found = _FIELD.fullmatch(line)
            if found is None:
                raise Malformed("no field line")
            fields.append((found[1].lower(), found[2].strip(b" \t")))

    def _body(self, request: Request, at: int) -> tuple[bytes, int]:
        if request.values(b"transfer-encoding"):
            return self._chunks(at)
        lengths = request.values(b"content-length")
        size = int(lengths[0]) if lengths else 0
        return self._exactly(at, size), at + size

    def _exactly(self, at: int, size: int) -> bytes:
        if len(self.rest) < at + size:
            raise _Incomplete
        return self.rest[at : at + size]

    def _chunks(self, at: int) -> tuple[bytes, int]:
        chunks: list[bytes] = []
        while True:
            line, at = self._line(at)
            found = (_LOOSE_SIZE if self._tolerant else _SIZE).fullmatch(line)
            if found is None:
                raise Malformed("no chunk size")
            size = int(found[1], 16)
            if not size:
                break
            chunks.append(self._exactly(at, size))
            at += size
            if not b"\r\n".startswith(self.rest[at : at + 2]):
                raise Malformed("a chunk is longer than its size")
            self._exactly(at, 2)
            at += 2
        trailers, at = self._fields(at)
        if {name for name, _ in trailers} & {b"content-length", b"transfer-encoding"}:
            raise Malformed("framing in a trailer")
        return b"".join(chunks), at


def _check(request: Request, minor: bytes) -> None:
    """What must hold for a whole head; raises Malformed."""
    hosts = request.values(b"host")
    if len(hosts) > 1 or (not hosts and minor == b"1"):
        raise Malformed(f"{len(hosts)} hosts")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Malformed("no valid host")
    lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
    if len(lengths) > 1 or (lengths and codings):
        raise Malformed("two lengths")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise Malformed("no length")
    if codings and (minor == b"0" or [it.lower() for it in codings] != [b"chunked"]):
        raise Malformed("a coding that is not chunked, once, in HTTP/1.1")
    if request.method not in _METHODS:
        raise Malformed("a method nobody forwards")
    _check_target(request.method, request.target)


def _check_target(method: bytes, target: bytes) -> None:
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        if not _HOST.fullmatch(absolute[1]):
            raise Malformed("no valid host in the target")
    elif not target.startswith(b"/") and (method, target) != (b"OPTIONS", b"*"):
        raise Malformed("no target")


def _closes(connection: list[bytes], minor: bytes) -> bool:
    options = {it.strip(b" \t").lower() for value in connection for it in value.split(b",")}
    return b"close" in options or (minor == b"0" and b"keep-alive" not in options)
