"""Which headers pass, each way; where our key stands; and what is scrubbed from answers.

To the provider go the caller's headers less everything that is ours, the front proxy's, the
connection's, or a cookie. Of the provider's answer, what describes its connection or its
server stays behind. Nothing that looks like one of our keys ever goes upstream. Where headers are
stored, those that let somebody in are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from metering.core.keys import PLACEHOLDER_CHARS_MAX, looks_ours, may_be_litellms
from metering.errors import InvalidRequest

Headers = list[tuple[bytes, bytes]]

SLOTS = (b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key")
"""The provider's slots: where its credential stands, and ours may. Of several of ours, the first of
these counts."""
CREDENTIALS = frozenset(SLOTS)
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"http2-settings",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
FORWARD = b"xproxy-forward-"
"""`xProxy-Forward-X: v` goes upstream as `X: v`."""
RETRY_COUNT = b"x-stainless-retry-count"
"""What the SDKs of openai, anthropic and payi say with each try: how many came before it."""
RETRY_DIGITS_MAX = 3
NAME_REMEMBERED_MAX = 64
"""What longer header names of a provider's mean is looked at anew each time: who is called may be
the caller's choice, and memory is bounded."""

_OURS = (b"xproxy-", b"x-portkey-", b"x-litellm-")
_DROP_PREFIXES = (*_OURS, b"x-forwarded-", b"proxy-")
_DROP = HOP_BY_HOP | {
    b"accept-encoding",
    b"content-length",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"via",
    b"x-real-ip",
}
_FORWARD_REFUSED = HOP_BY_HOP | {b"accept-encoding", b"content-length", b"expect", b"host"}
_FORWARD_REFUSED_PREFIXES = (*_OURS, b"proxy-")
_NONE: frozenset[bytes] = frozenset()
_ANSWER_DROP = HOP_BY_HOP | {
    b"alt-svc",
    b"content-length",
    b"date",
    b"server",
    b"set-cookie",
    b"set-cookie2",
    b"strict-transport-security",
    b"www-authenticate",
}
_ANSWER_DROP_PREFIXES = (*_OURS, b"proxy-", b"access-control-")
_BODY_DROP = frozenset(
    {b"content-encoding", b"content-md5", b"content-digest", b"digest", b"repr-digest", b"etag"}
)
_STORED_DROP = frozenset({b"openai-organization", b"openai-project", b"anthropic-organization-id"})
_OUR_KEY = b"sk-xproxy-"
# Keys, masked keys (`sk-proj-****abcd`) and the ids of the organization that owns them.
_SECRET = re.compile(
    rb"(?<![A-Za-z0-9_-])(?:(?:sk|rk|pk|ek)-[A-Za-z0-9_*.-]{6,}[A-Za-z0-9_*]"
    rb"|(?:org|proj|sess)[-_](?=[A-Za-z_-]*[0-9*])[A-Za-z0-9_*.-]{6,}[A-Za-z0-9_*]"
    rb"|AIza[A-Za-z0-9_-]{20,}|(?i:bearer)\s+[A-Za-z0-9_*.~+/-]{8,}=*)"
)
_TELLING = re.compile(
    r"auth|cookie|secret|passw|passphrase|credential|signature|session|bearer|jwt|assertion"
    r"|(?:keys?|token|sig|sid|cert|otp|pin)(?![a-z]|-count)|^(?:xproxy|x-portkey|x-litellm|proxy)-"
)
"""What is in names of headers that let somebody in, of ours, or of a front proxy's."""
_USER = re.compile(r"^([a-z+.-]*:[/\\]+)?[^/\\]*@", re.IGNORECASE)
"""The user of a URI, and what stands before."""
_LOGIN = re.compile(r"(?i)\b(?:basic|digest|negotiate)\s+\S+")


def to_provider(
    headers: Sequence[tuple[bytes, bytes]],
    credential: tuple[bytes, bytes] | None,
    *,
    our_keys: Sequence[str] = (),
) -> Headers:
    """The headers to send upstream, from ASGI headers; the engine adds host and content-length.

    `credential` is a stored provider key as a header: it replaces every credential of the
    caller's. `our_keys` are such as stay here whatever their format: what the caller was recognised
    by, and the operator's own. Raises InvalidRequest for a header that must not be sent on.
    """
    listed = _listed(headers)
    passed: Headers = []
    forwarded: Headers = []
    for raw_name, value in headers:
        name = raw_name.lower()
        if name.startswith(FORWARD):
            forwarded.append(_forward(name, value))
        elif not (_stays(_plain(name)) or name in listed):
            passed.append((name, value))
    if forwarded:
        replaced = {name for name, _ in forwarded}
        passed = [header for header in passed if header[0] not in replaced] + forwarded
    if credential is not None:
        passed = [header for header in passed if _plain(header[0]) not in CREDENTIALS]
        passed.append(credential)
    passed = [*without_our_keys(passed, our_keys)]
    passed.append((b"accept-encoding", b"identity"))
    return passed


def _plain(name: bytes) -> bytes:
    """A name as CGI's heirs read it, to whom `_` and `-` are one; they may stand behind us."""
    return name.replace(b"_", b"-")


def _stays(plain: bytes) -> bool:
    return plain in _DROP or plain.startswith(_DROP_PREFIXES)


def without_our_keys(
    headers: Sequence[tuple[bytes, bytes]], our_keys: Sequence[str]
) -> Sequence[tuple[bytes, bytes]]:
    """The headers less those with a key of ours in them; raises InvalidRequest for line breaks."""
    text = b" ".join([value for _, value in headers])
    for secret in _secrets(our_keys):
        if secret in text:
            headers = [header for header in headers if secret not in header[1]]
    if _breaks(text):
        for name, value in headers:
            if _breaks(value):
                raise _broken(name)
    return headers


def _secrets(our_keys: Sequence[str]) -> list[bytes]:
    """What must not be in anything that goes upstream."""
    return [_OUR_KEY, *[key.encode() for key in our_keys]]


def _listed(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The names that `Connection` declares to be the connection's own."""
    values = [value for name, value in headers if name.lower() == b"connection"]
    if not values or values == [b"keep-alive"]:  # which is dropped in any case
        return _NONE
    return frozenset(item.strip().lower() for value in values for item in value.split(b","))


def _forward(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    bare = name.removeprefix(FORWARD)
    plain = _plain(bare)
    if not bare or plain in _FORWARD_REFUSED or plain.startswith(_FORWARD_REFUSED_PREFIXES):
        field = "xProxy-Forward-" + bare.decode("latin-1")
        raise InvalidRequest(
            f"Header {field} cannot be forwarded: the proxy sets or keeps it itself; leave it out",
            code="invalid_forward_header",
            field=field,
        )
    return bare, value


def _breaks(value: bytes) -> bool:
    """Whether a value would end its header early."""
    return b"\n" in value or b"\r" in value or b"\0" in value


def _broken(name: bytes) -> InvalidRequest:
    field = name.decode("latin-1")
    return InvalidRequest(
        f"Header {field} contains a line break or NUL; remove it",
        code="invalid_header",
        field=field,
    )


def query_to_provider(query: bytes, *, stored: bool, our_keys: Sequence[str] = ()) -> bytes:
    """The query string to send upstream, percent-encoding kept.

    Our keys never pass, however encoded; with a stored credential no `key=` of the caller's does.
    """
    if not query:
        return query
    secrets = _secrets(our_keys)
    plain = unquote_to_bytes(query)
    ours = [secret for secret in secrets if secret in plain]
    if not ours and not (stored and b"key=" in query):
        return query
    parts = [
        part
        for part in query.split(b"&")
        if not any(secret in unquote_to_bytes(part) for secret in ours)
        and not (stored and part.startswith((b"key=", b"api_key=")))
    ]
    return b"&".join(parts)


def from_provider(
    headers: Sequence[tuple[bytes, bytes]], *, body_changed: bool, stored_key: bytes | None = None
) -> Headers:
    """The provider's headers, names in lower case, to pass on; `content-length` is the sender's.

    `body_changed` drops what described the bytes as they were; a `stored_key` that served the call
    drops what repeats it, and what names the organization behind it.
    """
    stored = stored_key is not None
    passed = [
        (name, value)
        for name, value in headers
        if (_passes if len(name) <= NAME_REMEMBERED_MAX else _passes.__wrapped__)(
            name, body_changed, stored
        )
    ]
    listed = _listed(headers)
    if listed:
        passed = [header for header in passed if header[0] not in listed]
    text = b" ".join([value for _, value in passed])
    if _breaks(text):
        passed = [header for header in passed if not _breaks(header[1])]
    if stored_key and stored_key in text:
        passed = [header for header in passed if stored_key not in header[1]]
    return passed


@lru_cache(maxsize=256)
def _passes(name: bytes, body_changed: bool, stored: bool) -> bool:  # noqa: FBT001
    """Whether a header of the provider's may pass, as far as its name tells."""
    if name in _ANSWER_DROP or _plain(name).startswith(_ANSWER_DROP_PREFIXES):
        return False
    return not ((body_changed and name in _BODY_DROP) or (stored and name in _STORED_DROP))


def our_key_and_provider_key(
    headers: Sequence[tuple[bytes, bytes]],
    is_admin: Callable[[str], bool],
    named: Sequence[bytes] = (b"xproxy-api-key",),
) -> tuple[str | None, bool]:
    """Our key in a call's headers, and whether the provider's slot is free.

    Ours is in one of the headers that are `named` for it, or in a slot of the provider's where it
    is known by its format or is the admin key; the first counts. The slot is free, for a stored
    credential, if no other key stands in any.
    """
    found: dict[bytes, str] = {}
    free = True
    for raw_name, value in headers:
        name = raw_name.lower()
        if name in named:
            if key := bare_key(value):
                found.setdefault(name, key)
        elif name in CREDENTIALS:
            key = bare_key(value)
            if looks_ours(key) or (key and is_admin(key)):
                found.setdefault(name, key)
            elif key:
                free = False
        elif name.startswith(FORWARD) and name.removeprefix(FORWARD) in CREDENTIALS:
            free = False
    return next((found[name] for name in (*named, *SLOTS) if name in found), None), free


def slot_key(headers: Sequence[tuple[bytes, bytes]], our_keys: Sequence[str]) -> str | None:
    """The first key in the provider's slots that is none of ours; None: there is none."""
    keys = [bare_key(value) for slot in SLOTS for name, value in headers if name == slot]
    return next((it for it in keys if it and not looks_ours(it) and it not in our_keys), None)


def only_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key that stands alone in the provider's slots, if LiteLLM may have made it."""
    found: set[str] = set()
    for raw_name, value in headers:
        name = raw_name.lower()
        if name in CREDENTIALS:
            found.add(bare_key(value))
        elif name.startswith(FORWARD) and name.removeprefix(FORWARD) in CREDENTIALS:
            return None
    found.discard("")
    key = found.pop() if len(found) == 1 else ""
    return key if may_be_litellms(key) else None


def retry_count(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """How often an SDK says it has tried before; None where it says nothing, or no such number."""
    said = [value for name, value in headers if name == RETRY_COUNT]
    if len(said) != 1 or not said[0].isdigit() or len(said[0]) > RETRY_DIGITS_MAX:
        return None
    return int(said[0])


def only_placeholders(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether what stands in the provider's slots is too short to be any provider's key."""
    shown = [
        value
        for name, value in headers
        if name in CREDENTIALS
        or (name.startswith(FORWARD) and name.removeprefix(FORWARD) in CREDENTIALS)
    ]
    return all(len(bare_key(value)) <= PLACEHOLDER_CHARS_MAX for value in shown)


def header_text(value: bytes) -> str:
    """A header's value as text, trimmed."""
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


def bare_key(value: bytes) -> str:
    """The key in a header's value, with or without `Bearer`."""
    text = value.decode("latin-1").strip()
    scheme, _, rest = text.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else text


def scrub(body: bytes, stored_key: bytes) -> bytes:
    """An error body with the key, and everything that looks like one or its owner, made `***`.

    For answers to calls that a stored key paid for: some providers repeat the key they were sent.
    """
    return _SECRET.sub(b"***", body.replace(stored_key, b"***"))


def tells_secret(name: str) -> bool:
    """Whether a header is of those that are never stored, whatever its value."""
    return _TELLING.search(name.lower().replace("_", "-")) is not None


def redacted(text: str) -> str:
    """A header's value as it may be stored, with everything that looks like a key made `***`."""
    return _LOGIN.sub("***", _SECRET.sub(b"***", text.encode()).decode())


def redacted_uri(uri: str) -> str:
    """A URI as it may be stored, without user, query and fragment: keys may stand in them."""
    return redacted(_USER.sub(r"\1", re.split("[?#]", uri, maxsplit=1)[0]))
