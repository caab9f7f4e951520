"""The classics of request smuggling, each with what of it may reach a provider.

Most carry a second request, complete with a key, that is none: in a body, behind a fault, in a
value. `TAG` stands for a number of the payload's own, by which what arrives is recognised.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

TAG = b"T0000000"
AT = b"/api/v1/proxy/openai/v1/"
HOST = b"Host: x"
CHUNKED = b"Transfer-Encoding: chunked"
ASK = json.dumps({"model": "gpt-4o-mini", "messages": [], "max_tokens": 9, "user": TAG.decode()})
BODY = b"0123456789"


@dataclass(frozen=True)
class Payload:
    """Bytes for one connection, and what becomes of them."""

    name: str
    sent: bytes
    forwarded: int = 0
    """How many requests of it go to the provider."""
    closes: bool = True
    """Whether the connection ends with the answer to it."""

    def tagged(self, number: int) -> bytes:
        """The bytes with the payload's number in them."""
        return self.sent.replace(TAG, b"T%07d" % number)


class Wire:
    """Requests as they stand on the wire, with a key that is good."""

    def __init__(self, key: bytes) -> None:
        self.key = b"xProxy-Api-Key: " + key
        self.hidden = self.request(b"GET", b"hidden/" + TAG)
        """What must never be a request of its own where it is not meant to be one."""

    def head(self, line: bytes, *fields: bytes) -> bytes:
        """A head; HOST and key are among the `fields`, or not."""
        return b"\r\n".join((line, *fields, b"", b""))

    def request(self, method: bytes, path: bytes, *fields: bytes, body: bytes = b"") -> bytes:
        """A request that is in order but for what is in `fields` and `body`."""
        line = method + b" " + AT + path + b" HTTP/1.1"
        return self.head(line, HOST, self.key, *fields) + body

    def post(self, *fields: bytes, body: bytes = b"") -> bytes:
        """A POST of any bytes to an endpoint that takes them as they are."""
        return self.request(b"POST", b"any/" + TAG, *fields, body=body)

    def sized(self, body: bytes, *fields: bytes) -> bytes:
        """A POST with the right length."""
        return self.post(b"Content-Length: %d" % len(body), *fields, body=body)

    def chunked(self, body: bytes, *fields: bytes) -> bytes:
        """A POST with these chunks."""
        return self.post(CHUNKED, *fields, body=body)

    def get(self, *fields: bytes) -> bytes:
        """A GET."""
        return self.request(b"GET", b"files/" + TAG, *fields)

    def chat(self) -> bytes:
        """A metered call."""
        size = b"Content-Length: %d" % len(ASK)
        return self.request(b"POST", b"chat/completions?" + TAG, size, body=ASK.encode())


def corpus(key: bytes) -> list[Payload]:
    """All payloads, with a key that the service knows."""
    wire = Wire(key)
    parts = (
        (_in_order, 1, False),
        (_lengths, 0, True),
        (_codings, 0, True),
        (_chunks, 0, True),
        (_lines, 0, True),
        (_names_and_values, 0, True),
        (_targets_and_versions, 0, True),
        (_hosts, 0, True),
        (_through_us, 1, False),
        (_refused_in_peace, 0, False),
    )
    found = []
    for part, forwarded, closes in parts:
        for name, given in part(wire).items():
            sent, count = given if isinstance(given, tuple) else (given, forwarded)
            found.append(Payload(name, sent, count, closes))
    return found + _that_end(wire)


Part = dict[str, bytes | tuple[bytes, int]]


def _in_order(wire: Wire) -> Part:
    """What is in order passes: bodies are bodies, whatever is in them."""
    hidden = wire.hidden
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    return {
        "a request in a body": wire.sized(hidden),
        "a request in a chunk": wire.chunked(chunk),
        "a request behind a request": (wire.sized(BODY) + wire.hidden, 2),
        "three requests": (wire.get() + wire.chat() + wire.chunked(chunk), 3),
        "a metered call": wire.chat(),
        "a metered call of another provider": wire.head(
            b"POST /api/v1/proxy/anthropic/v1/messages?" + TAG + b" HTTP/1.1",
            HOST,
            wire.key,
            b"Content-Length: %d" % len(ASK),
        )
        + ASK.encode(),
        "GET with a body": wire.request(
            b"GET", b"files/" + TAG, b"Content-Length: %d" % len(hidden), body=hidden
        ),
        "DELETE with a body": wire.request(
            b"DELETE", b"files/" + TAG, b"Content-Length: %d" % len(hidden), body=hidden
        ),
        "HEAD with a body": wire.request(
            b"HEAD", b"files/" + TAG, b"Content-Length: %d" % len(hidden), body=hidden
        ),
        "GET with chunks": wire.request(b"GET", b"files/" + TAG, CHUNKED, body=chunk),
        "OPTIONS": wire.request(b"OPTIONS", b"files/" + TAG),
        "PATCH without a length": wire.request(b"PATCH", b"files/" + TAG),
        "leading zeros in a length": wire.post(b"Content-Length: 00010", body=BODY),
        "leading zeros in a chunk size": wire.chunked(
            b"0000000000000000000a\r\n0123456789\r\n000\r\n\r\n"
        ),
        "chunk extensions": wire.chunked(b'a;a;b=c;d="e;\\"f"\r\n0123456789\r\n0;g\r\n\r\n'),
        "chunk extensions beside the grammar": wire.chunked(
            b"a;a=b;;=c\r\n0123456789\r\n0\r\n\r\n"
        ),
        "chunked in capitals": wire.post(b"transfer-ENCODING: CHUNKED", body=chunk),
        "blank lines before a request": b"\r\n\r\n" + wire.get(),
        "LF before a request": b"\n" + wire.get(),
        "CR before a request": b"\r" + wire.get(),
        "blank lines after a body": (wire.sized(BODY) + b"\r\n" + hidden, 2),
        "spaces in the request line": wire.head(
            b"GET   " + AT + b"files/" + TAG + b"   HTTP/1.1", HOST, wire.key
        ),
        "RTSP in place of HTTP": wire.get().replace(b"HTTP/1.1", b"RTSP/1.1", 1),
        "a fragment": wire.head(b"GET " + AT + b"files/" + TAG + b"#a?b HTTP/1.1", HOST, wire.key),
        "absolute form": wire.head(
            b"GET http://y:1" + AT + b"files/" + TAG + b"?a=b HTTP/1.1", HOST, wire.key
        ),
    }


def _lengths(wire: Wire) -> Part:
    """A length is one number, and stands alone."""
    body = b"5\r\nhello\r\n0\r\n\r\n"
    right = b"Content-Length: 10"
    odd = {
        "negative": b"-10",
        "signed": b"+10",
        "hexadecimal": b"0xa",
        "with an underscore": b"1_0",
        "fractional": b"10.0",
        "with an exponent": b"1e1",
        "a list of the same": b"10, 10",
        "a list of others": b"10, 5",
        "two words": b"10 5",
        "in quotes": b'"10"',
        "empty": b"",
        "beyond 64 bits": b"18446744073709551626",
        "with a letter": b"10Z",
        "other digits": "\u0661\u0660".encode(),
        "with a vertical tab": b"\x0b10",
        "with a non-breaking space": b"\xa010",
        "with NUL": b"10\0",
    }
    found: Part = {
        f"a length: {name}": wire.post(b"Content-Length: " + value, body=BODY + wire.hidden)
        for name, value in odd.items()
    }
    return found | {
        "CL.TE": wire.post(b"Content-Length: %d" % len(body), CHUNKED, body=body + wire.hidden),
        "CL.TE, the length short": wire.post(
            b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\n" + wire.hidden
        ),
        "TE.CL": wire.post(
            CHUNKED,
            b"Content-Length: 4",
            body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(wire.hidden), wire.hidden),
        ),
        "CL.0": wire.post(right, b"Content-Length: 0", body=BODY + wire.hidden),
        "0.CL": wire.post(b"Content-Length: 0", right, body=BODY + wire.hidden),
        "the same length twice": wire.post(right, right, body=BODY + wire.hidden),
        "two lengths, one empty": wire.post(right, b"Content-Length:", body=BODY + wire.hidden),
        "a length with blank before the colon": wire.post(
            b"Content-Length : 10", body=BODY + wire.hidden
        ),
        "a length without a colon": wire.post(b"Content-Length 10", body=BODY + wire.hidden),
        "a length without a colon's line": wire.post(b"Content-\r\nLength: 10", body=BODY),
    }


def _codings(wire: Wire) -> Part:
    """The one transfer coding is chunked, and it is said once."""
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(wire.hidden), wire.hidden)
    odd = {
        "another": b"gzip",
        "identity": b"identity",
        "chunked after gzip": b"gzip, chunked",
        "chunked before gzip": b"chunked, gzip",
        "chunked after identity": b"identity, chunked",
        "chunked before identity": b"chunked, identity",
        "chunked twice": b"chunked, chunked",
        "a comma before": b",chunked",
        "a comma after": b"chunked,",
        "with a parameter": b"chunked;q=1",
        "in quotes": b'"chunked"',
        "with a letter before": b"xchunked",
        "with a letter after": b"chunkedx",
        "a space within": b"chun ked",
        "with a vertical tab": b"\x0bchunked",
        "with a form feed": b"chunked\x0c",
        "with NUL": b"chunked\0",
        "with a non-breaking space": b"\xa0chunked",
        "with a Kelvin sign": "chun\u212aed".encode(),
        "empty": b"",
    }
    found: Part = {}
    for name, value in odd.items():
        field = b"Transfer-Encoding: " + value
        found[f"a coding: {name}"] = wire.post(field, body=chunk + wire.hidden)
        found[f"a coding and a length: {name}"] = wire.post(
            b"Content-Length: %d" % len(chunk), field, body=chunk + wire.hidden
        )
    return found | {
        "TE.TE": wire.post(CHUNKED, CHUNKED, body=chunk + wire.hidden),
        "TE.TE, the second odd": wire.post(CHUNKED, b"Transfer-encoding: x", body=chunk),
        "TE.TE, the first odd": wire.post(b"Transfer-Encoding: x", CHUNKED, body=chunk),
        "TE.TE, the first identity": wire.post(b"Transfer-Encoding: identity", CHUNKED, body=chunk),
        "a coding with blank before the colon": wire.post(
            b"Transfer-Encoding : chunked", body=chunk + wire.hidden
        ),
        "a coding on a folded line": wire.post(b"Transfer-Encoding:\r\n chunked", body=chunk),
        "a coding behind a blank": wire.post(b" Transfer-Encoding: chunked", body=chunk),
        "a coding behind a bare CR": wire.post(b"X: y\rTransfer-Encoding: chunked", body=chunk),
        "a coding behind a bare LF": wire.post(b"X: y\nTransfer-Encoding: chunked", body=chunk),
        "a coding in HTTP/1.0": wire.head(
            b"POST " + AT + b"any/" + TAG + b" HTTP/1.0", HOST, wire.key, CHUNKED
        )
        + chunk,
        "a coding in HTTP/1.0 that goes on": wire.head(
            b"POST " + AT + b"any/" + TAG + b" HTTP/1.0",
            HOST,
            wire.key,
            b"Connection: keep-alive",
            CHUNKED,
        )
        + chunk
        + wire.hidden,
    }


def _chunks(wire: Wire) -> Part:
    """Chunks have a size in hexadecimal digits, and lines end in CRLF."""
    tail = b"0\r\n\r\n" + wire.hidden
    odd = {
        "0x": b"0xa\r\n0123456789\r\n",
        "a sign": b"+a\r\n0123456789\r\n",
        "a minus": b"-a\r\n0123456789\r\n",
        "an underscore": b"0_a\r\n0123456789\r\n",
        "a blank before": b" a\r\n0123456789\r\n",
        "a blank after": b"a \r\n0123456789\r\n",
        "a tab after": b"a\t\r\n0123456789\r\n",
        "another letter": b"g\r\n0123456789\r\n",
        "no size": b"\r\n0123456789\r\n",
        "an extension alone": b";a\r\n0123456789\r\n",
        "beyond 64 bits": b"1000000000000000a\r\n0123456789\r\n",
        "far beyond 64 bits": b"f" * 40 + b"\r\n0123456789\r\n",
        "LF after the size": b"a\n0123456789\r\n",
        "CR after the size": b"a\r0123456789\r\n",
        "CR twice after the size": b"a\r\r\n0123456789\r\n",
        "LF after the data": b"a\r\n0123456789\n",
        "CR after the data": b"a\r\n0123456789\r",
        "nothing after the data": b"a\r\n0123456789",
        "anything after the data": b"a\r\n0123456789xy",
        "too short a size": b"9\r\n0123456789\r\n",
        "LF in an extension": b"a;b\nc\r\n0123456789\r\n",
        "CR in an extension": b"a;b\rc\r\n0123456789\r\n",
        "CR after an extension": b"a;b\r\r\n0123456789\r\n",
        "NUL in an extension": b"a;b\0c\r\n0123456789\r\n",
        "LF in a quoted extension": b'a;b="c\nd"\r\n0123456789\r\n',
        "a request in an extension": b"a;b\n\n" + wire.hidden + b"\r\n0123456789\r\n",
    }
    found: Part = {f"a chunk: {name}": wire.chunked(value + tail) for name, value in odd.items()}
    last = b"a\r\n0123456789\r\n"
    return found | {
        "the last chunk with LF": wire.chunked(last + b"0\n\r\n" + wire.hidden),
        "the end with LF": wire.chunked(last + b"0\r\n\n" + wire.hidden),
        "the end with CR": wire.chunked(last + b"0\r\n\r" + wire.hidden),
        "no end": wire.chunked(last + b"0\r\n" + wire.hidden),
        "a trailer without a colon": wire.chunked(last + b"0\r\nabc\r\n\r\n" + wire.hidden),
        "a trailer with LF": wire.chunked(last + b"0\r\na: b\n\r\n" + wire.hidden),
        "a folded trailer": wire.chunked(last + b"0\r\na: b\r\n c\r\n\r\n" + wire.hidden),
        "a trailer with NUL": wire.chunked(last + b"0\r\na: b\0\r\n\r\n" + wire.hidden),
        "a length in a trailer": wire.chunked(
            last + b"0\r\nContent-Length: 5\r\n\r\n" + wire.hidden
        ),
        "a coding in a trailer": wire.chunked(last + b"0\r\n" + CHUNKED + b"\r\n\r\n" + last),
    }


def _lines(wire: Wire) -> Part:
    """Lines of a head end in CRLF, and are not folded."""
    get = wire.get()
    bare = get.replace(b"\r\n", b"\n")
    return {
        "LF everywhere": bare + wire.hidden,
        "CR everywhere": get.replace(b"\r\n", b"\r") + b"\n\r\n" + wire.hidden,
        "LF after the request line": get.replace(b"\r\n", b"\n", 1) + wire.hidden,
        "LF after a field": get.replace(b"x\r\n", b"x\n", 1) + wire.hidden,
        "LF at the end of the head": get[:-2] + b"\n" + wire.hidden,
        "CR at the end of the head": get[:-2] + b"\r" + wire.hidden,
        "CR and a byte at the end of the head": get[:-2] + b"\rZ" + wire.hidden,
        "CR twice after a field": get.replace(b"x\r\n", b"x\r\r\n", 1) + wire.hidden,
        "a folded line": wire.get(b"X: y", b" z: a"),
        "a line folded with a tab": wire.get(b"X: y", b"\tContent-Length: 5"),
        "a folded first line": get.replace(b"Host", b" Host", 1),
        "a folded host": get.replace(b"Host: x", b"Host:\r\n x", 1),
        "a folded empty line": wire.get(b"X: y", b" "),
        "a line without a colon": wire.get(b"abc"),
        "a request line in the head": wire.get(b"GET / HTTP/1.1"),
    }


def _names_and_values(wire: Wire) -> Part:
    """Names are tokens; values have no control characters."""
    found: Part = {
        f"a name with {char!r}": wire.get(b"a" + char + b"b: c")
        for char in (b"\0", b" ", b"\t", b"\r", b"\n", b"\x0b", b"\x7f", b"\x85", b"\xa0", b"(")
    }
    found |= {
        f"a value with {char!r}": wire.get(b"a: b" + char + wire.hidden)
        for char in (b"\0", b"\x01", b"\b", b"\n", b"\x0b", b"\x0c", b"\r", b"\x1f", b"\x7f")
    }
    forward = b"xProxy-Forward-"
    return found | {
        "an empty name": wire.get(b": a"),
        "neither name nor value": wire.get(b":"),
        "blank before a colon": wire.get(b"a : b"),
        "a value to forward with CR": wire.get(forward + b"A: b\rContent-Length: 5"),
        "a value to forward with LF": wire.get(forward + b"A: b\nContent-Length: 5"),
        "a value to forward with NUL": wire.get(forward + b"A: b\0"),
        "a name to forward with a blank": wire.get(forward + b"Content-Length : 5"),
        "a name to forward with CR": wire.get(forward + b"A\r\nB: c\r: 5"),
    }


def _targets_and_versions(wire: Wire) -> Part:
    """Targets are paths or absolute; the version is 1.1, or 1.0."""
    path = AT + b"files/" + TAG
    lines = {
        "HTTP/0.9": b"GET " + path,
        "HTTP/0.9, said": b"GET " + path + b" HTTP/0.9",
        "HTTP/1.2": b"GET " + path + b" HTTP/1.2",
        "HTTP/2.0": b"GET " + path + b" HTTP/2.0",
        "HTTP/1": b"GET " + path + b" HTTP/1",
        "HTTP/1.10": b"GET " + path + b" HTTP/1.10",
        "HTTP/01.1": b"GET " + path + b" HTTP/01.1",
        "http/1.1": b"GET " + path + b" http/1.1",
        "HTTP 1.1": b"GET " + path + b" HTTP 1.1",
        "ICE/1.1": b"GET " + path + b" ICE/1.1",
        "ICE/1.0": b"SOURCE " + path + b" ICE/1.0",
        "RTSP/1.1": b"PLAY " + path + b" RTSP/1.1",
        "blank after the version": b"GET " + path + b" HTTP/1.1 ",
        "a third word": b"GET " + path + b" x HTTP/1.1",
        "two versions": b"GET " + path + b" HTTP/1.1 HTTP/1.1",
        "a tab after the method": b"GET\t" + path + b" HTTP/1.1",
        "a tab before the version": b"GET " + path + b"\tHTTP/1.1",
        "a form feed after the method": b"GET\x0c" + path + b" HTTP/1.1",
        "LF before the version": b"GET " + path + b"\nHTTP/1.1",
        "CR in the target": b"GET " + path + b"\rX HTTP/1.1",
        "NUL in the target": b"GET " + path + b"\0 HTTP/1.1",
        "a tab in the target": b"GET " + path + b"?\ta HTTP/1.1",
        "a byte beyond ASCII in the target": b"GET " + path + b"\xe9 HTTP/1.1",
        "no slash before the target": b"GET api/v1/proxy/openai/v1/files HTTP/1.1",
        "no target": b"GET  HTTP/1.1",
        "a star as the target": b"GET * HTTP/1.1",
        "a host as the target": b"GET x:80 HTTP/1.1",
        "an absolute target with user info": b"GET http://a@x" + path + b" HTTP/1.1",
        "an absolute target without a host": b"GET http://" + path + b" HTTP/1.1",
        "another scheme": b"GET ftp://x" + path + b" HTTP/1.1",
        "a blank before the method": b" GET " + path + b" HTTP/1.1",
        "a method in small letters": b"get " + path + b" HTTP/1.1",
        "a method that is no token": b'G=":<>(e),[T];?" ' + path + b" HTTP/1.1",
        "a method nobody knows": b"SMUGGLE " + path + b" HTTP/1.1",
        "a method that begins like one": b"GETX " + path + b" HTTP/1.1",
        "CONNECT": b"CONNECT provider:443 HTTP/1.1",
        "CONNECT with a path": b"CONNECT " + path + b" HTTP/1.1",
        "TRACE": b"TRACE " + path + b" HTTP/1.1",
    }
    found: Part = {
        name: wire.head(line, HOST, wire.key) + wire.hidden for name, line in lines.items()
    }
    return found | {
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + wire.hidden,
        "HTTP/2 preface, frames": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + wire.hidden,
    }


def _hosts(wire: Wire) -> Part:
    """One host, and a valid one."""
    line = b"GET " + AT + b"files/" + TAG + b" HTTP/1.1"
    found: Part = {
        f"a host: {value.decode('latin-1')!r}": wire.head(line, b"Host: " + value, wire.key)
        + wire.hidden
        for value in (
            b"",
            b"a/b",
            b"a@b",
            b"a b",
            b"a,b",
            b"a:b",
            b"a:1:2",
            b"[::1",
            b"a\xe9",
            b"a?b",
        )
    }
    return found | {
        "no host": wire.head(line, wire.key) + wire.hidden,
        "two hosts": wire.get(b"Host: y") + wire.hidden,
        "the same host twice": wire.get(HOST) + wire.hidden,
        "two hosts in HTTP/1.0": wire.get(b"Host: y").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        "too many fields": wire.get(*[b"a: b"] * 100) + wire.hidden,
        "too large a head": wire.get(b"a: " + b"b" * 40_000) + wire.hidden,
    }


def _through_us(wire: Wire) -> Part:
    """What would be another request at the provider if we copied carelessly."""
    end = b"%20HTTP/1.1%0d%0aHost:%20x%0d%0a%0d%0aGET%20/hidden"
    chunk = b"a\r\n0123456789\r\n0\r\n"
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAA")
    return {
        "encoded CRLF in the path": wire.request(b"GET", b"files/" + TAG + end),
        "encoded CRLF in the query": wire.request(b"GET", b"files/" + TAG + b"?a=" + end),
        "encoded NUL in the path": wire.request(b"GET", b"files/" + TAG + b"%00"),
        "beyond ASCII in CRLF's place": wire.get(b"X: \xc4\x8d\xc4\x8aHost: y"),
        "beyond ASCII in a value": wire.get(b"X: \x85\xa0\xff"),
        '`"<>` in the target': wire.request(b"GET", b"files/" + TAG + b'"<>\\^`{|}?[]'),
        "a trailer of ours": wire.chunked(chunk + b"xProxy-Limit-IDs: none\r\n\r\n"),
        "a request in a trailer": wire.chunked(chunk + b"X:" + wire.hidden),
        "a trailer with a host": wire.chunked(chunk + b"Host: y\r\n\r\n"),
        "a trailer that could be a header": wire.chunked(chunk + b"X-Trailer: y\r\n\r\n"),
        "many trailers": wire.chunked(chunk + b"a: b\r\n" * 150 + b"\r\n"),
        "Connection lists what frames": wire.sized(
            BODY, b"Connection: content-length, host, authorization, accept-encoding"
        ),
        "Connection lists nothing": wire.sized(BODY, b"Connection: ,"),
        "hop by hop": wire.sized(
            BODY, b"TE: trailers", b"Trailer: X", b"Keep-Alive: 5", b"Proxy-Connection: x"
        ),
        "a value to forward that ends the head": (
            wire.get(b"xProxy-Forward-A: b\r\n\r\n" + wire.hidden[:-4]),
            2,
        ),
        "with underscores": wire.sized(
            BODY, b"transfer_encoding: chunked", b"content_length: 3", b"xproxy_limit-ids: none"
        ),
        "Upgrade": wire.get(*upgrade),
        "Upgrade with a body": wire.sized(wire.hidden, *upgrade),
        "Upgrade with chunks": wire.chunked(
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(wire.hidden), wire.hidden), *upgrade
        ),
        "Upgrade and a request behind it": (wire.sized(BODY, *upgrade) + wire.hidden, 2),
        "Upgrade to a web socket": wire.get(
            b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x"
        ),
        "Expect": wire.sized(wire.hidden, b"Expect: 100-continue"),
        "Expect something else": wire.sized(wire.hidden, b"Expect: 100-Continue, x"),
        "Expect without a body": wire.get(b"Expect: 100-continue"),
        "many slashes": wire.head(
            b"GET ///" + AT[1:] + b"files/" + TAG + b" HTTP/1.1", HOST, wire.key
        ),
        "a target like an authority": wire.request(b"GET", b"/evil.test@x/" + TAG),
        "a control-plane call before": (
            wire.head(b"GET /health/live HTTP/1.1", HOST, b"Content-Length: 10")
            + BODY
            + wire.get(),
            1,
        ),
    }


def _refused_in_peace(wire: Wire) -> Part:
    """Refused, but nothing about where it ends is in doubt: the connection goes on."""
    limits = b"POST /api/v1/limits HTTP/1.1"
    size = b"Content-Length: %d" % len(wire.hidden)
    forward = b"xProxy-Forward-"
    return {
        "no key": wire.head(b"POST " + AT + b"any/" + TAG + b" HTTP/1.1", HOST, size) + wire.hidden,
        "a path that climbs": wire.request(b"POST", b"../any/" + TAG, size, body=wire.hidden),
        "a path that climbs, encoded": wire.request(
            b"POST", b"%2e%2e/any/" + TAG, size, body=wire.hidden
        ),
        "a mistyped path": wire.head(b"POST /api/v1/proxy/x HTTP/1.1", HOST, wire.key, size)
        + wire.hidden,
        "a body for the control plane": wire.head(limits, HOST, wire.key, size) + wire.hidden,
        "chunks for the control plane": wire.head(limits, HOST, wire.key, CHUNKED)
        + b"%x\r\n%b\r\n0\r\n" % (len(wire.hidden), wire.hidden)
        + b"xProxy-Api-Key: x\r\n\r\n",
        **{
            f"to forward: {name.decode()}": wire.sized(wire.hidden, forward + name + b": 5")
            for name in (b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"TE")
        },
        "to forward: content_length": wire.sized(wire.hidden, forward + b"content_length: 5"),
    }


def _that_end(wire: Wire) -> list[Payload]:
    """In order, and the last of their connections: what follows is no request any more."""
    close = b"Connection: close"
    old = wire.get().replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    size = b"Content-Length: %d" % len(wire.hidden)
    return [
        Payload("close, and a request behind it", wire.get(close) + wire.hidden, 1),
        Payload("close among others", wire.get(b"Connection: x, Close ,y") + wire.hidden, 1),
        Payload("HTTP/1.0, and a request behind it", old + wire.hidden, 1),
        Payload(
            "close in a trailer, and a request behind it",
            wire.chunked(b"a\r\n0123456789\r\n0\r\nConnection: close\r\n\r\n") + wire.hidden,
            1,
        ),
        Payload("Upgrade and close", wire.get(close, b"Upgrade: h2c") + wire.hidden, 1),
        Payload("a request, then garbage", wire.get() + b"\0\0\0\0" + wire.hidden, 1),
        Payload("a request, then a bad head", wire.get() + wire.get(HOST) + wire.hidden, 1),
        Payload("a request, then CL.TE", wire.get() + wire.post(size, CHUNKED) + wire.hidden, 1),
        Payload(
            "a control-plane call with a bad chunk",
            wire.head(b"POST /api/v1/limits HTTP/1.1", HOST, wire.key, CHUNKED)
            + b"5\r\nhello\n0\r\n\r\n"
            + wire.hidden,
        ),
        Payload(
            "a request, then a control-plane call with a bad chunk",
            wire.get()
            + wire.head(b"POST /api/v1/limits HTTP/1.1", HOST, wire.key, CHUNKED)
            + b"5\r\nhello\n0\r\n\r\n"
            + wire.hidden,
            1,
        ),
        Payload(
            "no key, then a bad chunk",
            wire.head(b"POST " + AT + b"any/" + TAG + b" HTTP/1.1", HOST, CHUNKED)
            + b"5\r\nhello\n0\r\n\r\n"
            + wire.hidden,
        ),
        Payload("OPTIONS *", wire.head(b"OPTIONS * HTTP/1.1", HOST, close) + wire.hidden),
    ]
