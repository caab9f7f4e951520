"""What a call says about itself: the `xProxy-*` headers, current and legacy names, any case.

| header                                                | also accepted                     |
|-------------------------------------------------------|-----------------------------------|
| xProxy-Limit-IDs, comma list                          | xProxy-Budget-IDs                 |
| xProxy-Request-Tags, comma list                       |                                   |
| xProxy-User-ID, xProxy-Account-Name                   |                                   |
| xProxy-UseCase-Name                                   | xProxy-Experience-Name            |
| xProxy-UseCase-ID                                     | xProxy-Experience-ID, -InstanceId |
| xProxy-UseCase-Version, xProxy-UseCase-Step           |                                   |
| xProxy-UseCase-Properties, xProxy-Request-Properties  | raw JSON, or Base64 of it         |
| xProxy-PriceAs-Category                               |                                   |
| xProxy-PriceAs-Resource                               | xProxy-RouteAs-Resource           |
| xProxy-Resource-Scope: global, datazone, region       | datazone.<geography>              |
| xProxy-Provider-BaseUri                               |                                   |
| xProxy-Credential: the slug of a stored one           |                                   |
| xProxy-Logging-Disable: True, False                   |                                   |
| xProxy-Result: on, off                                |                                   |
| xProxy-On-Disconnect: drain, cancel                   |                                   |

An empty value is the same as no header. Where both names come, the current one counts, but limits
add up: no header ever takes a budget away. Other `xProxy-*` headers are not ours to read here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from metering.core import credentials, origins
from metering.core.headers import header_text
from metering.core.ids import CHOSEN, CHOSEN_IS
from metering.core.origins import Origin
from metering.errors import InvalidRequest

LIMITS_MAX = 16
"""How many limits one call may name."""
TAGS_MAX = 64
TEXT_MAX = 256
"""The longest user, account, use case id or step, in characters."""
PROPERTIES_BYTES_MAX = 16 * 1024
"""The longest property header, as sent."""
PROPERTIES_MAX = 64
PROPERTY_NAME_MAX = 128
PROPERTY_VALUE_MAX = 2048
VERSION_MAX = 2**31 - 1
LOGGING = "xProxy-Logging-Disable"

_TAG = re.compile(r"[A-Za-z0-9_-]{1,64}")
_USE_CASE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SCOPE = re.compile(r"(global|datazone|region)(\.[A-Za-z0-9_-]{1,32})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_properties = msgspec.json.Decoder(dict[str, str | None])


class Annotations(msgspec.Struct, frozen=True, kw_only=True):
    """The annotations of one call, checked."""

    limit_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    user_id: str | None = None
    account_name: str | None = None
    use_case_name: str | None = None
    use_case_id: str | None = None
    use_case_version: int | None = None
    use_case_step: str | None = None
    properties: dict[str, str | None] = {}
    use_case_properties: dict[str, str | None] = {}
    price_as_category: str | None = None
    price_as_resource: str | None = None
    scope: str | None = None
    base_uri: Origin | None = None
    """Where the call is to go instead of to the provider; not judged yet."""
    credential: str | None = None
    """The slug of the stored credential that is to serve the call."""
    logging_disabled: bool = False
    """Of a reported call: its bodies are not kept. Those of proxied ones never are."""
    as_budgets: bool = False
    """Limits are named by their first header: the result names them by their first name, too."""
    result_off: bool = False
    """`xProxy-Result: off`: bodies stay untouched."""
    on_disconnect: Literal["drain", "cancel"] = "drain"
    """`xProxy-On-Disconnect`: finish reading the provider's stream, or close it and estimate."""

    def labels(self, user_id: str | None = None, account_name: str | None = None) -> dict[str, Any]:
        """What the call's usage row has of them, by its names there. Those given are whom the key
        stands for, where the call does not say whom it is for."""
        return {
            "scope": self.scope,
            "user_id": self.user_id or user_id,
            "account_name": self.account_name or account_name,
            "use_case_name": self.use_case_name,
            "use_case_id": self.use_case_id,
            "use_case_version": self.use_case_version,
            "use_case_step": self.use_case_step,
            "tags": list(self.tags),
            "properties": self.properties,
            "use_case_properties": self.use_case_properties,
        }

    def beside(self, first: Annotations) -> Annotations:
        """These and others, which count where both say something; lists and properties add up."""
        if first is NONE:
            return self
        both = {it: getattr(first, it) or getattr(self, it) for it in self.__struct_fields__}
        for name in ("limit_ids", "tags"):
            both[name] = tuple(dict.fromkeys((*getattr(first, name), *getattr(self, name))))
        for name in ("properties", "use_case_properties"):
            both[name] = getattr(self, name) | getattr(first, name)
        return Annotations(**both)


NONE = Annotations()
"""A call that says nothing about itself."""

# Wire name -> the name it is known by today, as error messages show it.
_NAMES: dict[bytes, str] = {
    name.lower().encode(): current
    for current, legacy in {
        "xProxy-Limit-IDs": (),
        "xProxy-Budget-IDs": (),
        "xProxy-Request-Tags": (),
        "xProxy-User-ID": (),
        "xProxy-Account-Name": (),
        "xProxy-UseCase-Name": ("xProxy-Experience-Name",),
        "xProxy-UseCase-ID": ("xProxy-Experience-ID", "xProxy-Experience-InstanceId"),
        "xProxy-UseCase-Version": (),
        "xProxy-UseCase-Step": (),
        "xProxy-UseCase-Properties": (),
        "xProxy-Request-Properties": (),
        "xProxy-PriceAs-Category": (),
        "xProxy-PriceAs-Resource": ("xProxy-RouteAs-Resource",),
        "xProxy-Resource-Scope": (),
        origins.HEADER: (),
        credentials.HEADER: (),
        LOGGING: (),
        "xProxy-Result": (),
        "xProxy-On-Disconnect": (),
    }.items()
    for name in (current, *legacy)
}
MEMBERS = {
    "limit_ids": "xProxy-Limit-IDs",
    "request_tags": "xProxy-Request-Tags",
    "user_id": "xProxy-User-ID",
    "account_name": "xProxy-Account-Name",
    "use_case_name": "xProxy-UseCase-Name",
    "use_case_id": "xProxy-UseCase-ID",
    "use_case_version": "xProxy-UseCase-Version",
    "use_case_step": "xProxy-UseCase-Step",
    "scope": "xProxy-Resource-Scope",
}
"""Members of reported calls, which come many to a body, and the headers that say the same."""
_LISTS = frozenset({"xProxy-Limit-IDs", "xProxy-Budget-IDs", "xProxy-Request-Tags"})


def annotate(headers: Sequence[tuple[bytes, bytes]]) -> Annotations:
    """The annotations in ASGI headers; raises InvalidRequest naming the header and the remedy."""
    values = _collect(headers)
    if not values:
        return NONE
    text = values.get
    version = text("xProxy-UseCase-Version")
    base_uri = text(origins.HEADER)
    return Annotations(
        limit_ids=_limit_ids(values),
        tags=_tags(text("xProxy-Request-Tags")),
        user_id=_user_id(text("xProxy-User-ID")),
        account_name=_text(values, "xProxy-Account-Name"),
        use_case_name=_use_case_name(text("xProxy-UseCase-Name")),
        use_case_id=_text(values, "xProxy-UseCase-ID"),
        use_case_version=_version(version) if version else None,
        use_case_step=_text(values, "xProxy-UseCase-Step"),
        properties=_property_map(values, "xProxy-Request-Properties"),
        use_case_properties=_property_map(values, "xProxy-UseCase-Properties"),
        price_as_category=_text(values, "xProxy-PriceAs-Category"),
        price_as_resource=_text(values, "xProxy-PriceAs-Resource"),
        scope=_scope(text("xProxy-Resource-Scope")),
        base_uri=origins.parse(base_uri) if base_uri else None,
        credential=_credential(text(credentials.HEADER)),
        logging_disabled=_logging_disabled(values),
        as_budgets="xProxy-Budget-IDs" in values,
        result_off=_choice(values, "xProxy-Result", "on", "off"),
        on_disconnect="cancel"
        if _choice(values, "xProxy-On-Disconnect", "drain", "cancel")
        else "drain",
    )


def logging_disabled(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """What headers say of logging alone: of many calls that are reported together."""
    said = [it for it in headers if it[0].lower() == LOGGING.lower().encode()]
    return _logging_disabled(_collect(said))


def of_members(members: Mapping[str, str]) -> Annotations:
    """The annotations in members of a body, as `MEMBERS` names them; the same rules hold."""
    values = {MEMBERS[name]: value.strip() for name, value in members.items() if value.strip()}
    version = values.get("xProxy-UseCase-Version")
    try:
        return Annotations(
            limit_ids=_limit_ids(values),
            tags=_tags(values.get("xProxy-Request-Tags")),
            user_id=_user_id(values.get("xProxy-User-ID")),
            account_name=_text(values, "xProxy-Account-Name"),
            use_case_name=_use_case_name(values.get("xProxy-UseCase-Name")),
            use_case_id=_text(values, "xProxy-UseCase-ID"),
            use_case_version=_version(version) if version else None,
            use_case_step=_text(values, "xProxy-UseCase-Step"),
            scope=_scope(values.get("xProxy-Resource-Scope")),
        )
    except InvalidRequest as fault:
        header = fault.field or ""
        member = next(name for name, its in MEMBERS.items() if its == header)
        message = fault.message.replace(f"Header {header}", member)
        raise InvalidRequest(message, code=fault.code, field=member) from None


def _collect(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """The values of our headers by current name, trimmed, without empty ones."""
    values: dict[str, str] = {}
    legacy: dict[str, str] = {}
    for raw_name, raw_value in headers:
        lower = raw_name.lower()
        if not lower.startswith(b"xproxy-") or lower not in _NAMES:
            continue
        value = header_text(raw_value)
        if not value:
            continue
        name = _NAMES[lower]
        into = values if lower == name.lower().encode() else legacy
        if name in into and name in _LISTS:
            into[name] += "," + value
        elif into.setdefault(name, value) != value:
            raise _invalid(name, "came more than once with different values; send it once")
    return {**legacy, **values} if legacy else values


def _invalid(name: str, problem: str, code: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"Header {name} {problem}", code=code, field=name)


def _items(value: str | None) -> list[str]:
    return [item for part in value.split(",") if (item := part.strip())] if value else []


def _limit_ids(values: dict[str, str]) -> tuple[str, ...]:
    limit_ids: list[str] = []
    for name in ("xProxy-Limit-IDs", "xProxy-Budget-IDs"):
        own = _items(values.get(name))
        for limit_id in own:
            if not CHOSEN.fullmatch(limit_id):
                problem = (
                    f"contains the invalid limit id {_quoted(limit_id)}; an id is {CHOSEN_IS}, and "
                    "commas separate them"
                )
                raise _invalid(name, problem, "invalid_limit_id")
        if len(set(own)) < len(own):
            twice = next(limit_id for limit_id in own if own.count(limit_id) > 1)
            problem = f": limit id '{twice}' specified more than once; name each limit once"
            raise _invalid(name, problem, "duplicate_limit_id")
        limit_ids += [limit_id for limit_id in own if limit_id not in limit_ids]
    if len(limit_ids) > LIMITS_MAX:
        problem = f"names {len(limit_ids)} limits; at most {LIMITS_MAX} are allowed"
        raise _invalid("xProxy-Limit-IDs", problem, "invalid_limit_ids")
    return tuple(limit_ids)


def _quoted(value: str) -> str:
    """A caller's text for a message: short, and without control characters."""
    return repr(value if len(value) <= 80 else value[:77] + "...")


def _tags(value: str | None) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(_items(value)))
    for tag in tags:
        if not _TAG.fullmatch(tag):
            problem = (
                f"contains an invalid tag name {_quoted(tag)}. Alphanumeric, underscore (_) and "
                "dash (-) only, at most 64 characters, separated by commas"
            )
            raise _invalid("xProxy-Request-Tags", problem, "invalid_tags")
    if len(tags) > TAGS_MAX:
        problem = f"has {len(tags)} tags; at most {TAGS_MAX} are allowed"
        raise _invalid("xProxy-Request-Tags", problem, "invalid_tags")
    return tags


def is_text(value: str) -> bool:
    """Whether a text may be kept as a name: it is not too long, and has no control characters."""
    return len(value) <= TEXT_MAX and _CONTROL.search(value) is None


def _text(values: dict[str, str], name: str) -> str | None:
    value = values.get(name)
    if value is None:
        return None
    if not is_text(value):
        problem = f"must be at most {TEXT_MAX} characters without control characters"
        raise _invalid(name, problem, "invalid_header")
    return value


def _user_id(value: str | None) -> str | None:
    if value and (" " in value or not is_text(value)):
        problem = (
            f": User Id {_quoted(value)} is not valid; use at most {TEXT_MAX} characters without "
            "spaces and control characters"
        )
        raise _invalid("xProxy-User-ID", problem, "invalid_user_id")
    return value


def _use_case_name(value: str | None) -> str | None:
    if value and not _USE_CASE_NAME.fullmatch(value):
        problem = f"is {_quoted(value)}; use 1 to 64 of the characters A-Z a-z 0-9 . _ -"
        raise _invalid("xProxy-UseCase-Name", problem, "invalid_use_case_name")
    return value


def _credential(value: str | None) -> str | None:
    if value and not credentials.SLUG.fullmatch(value):
        problem = f"is {_quoted(value)}; a slug is 1 to 64 of the characters a-z 0-9 _ -"
        raise _invalid(credentials.HEADER, problem, "invalid_credential")
    return value


def _version(value: str) -> int | None:
    """The version; 0 means the latest, as if none was sent."""
    if not (value.isascii() and value.isdigit() and len(value) <= 10) or int(value) > VERSION_MAX:
        problem = f"is {_quoted(value)}; it must be a whole number, 1 or more"
        raise _invalid("xProxy-UseCase-Version", problem, "invalid_use_case_version")
    return int(value) or None


def _scope(value: str | None) -> str | None:
    if value and not _SCOPE.fullmatch(value):
        problem = f"is {_quoted(value)}; use global, datazone or region, or datazone.<geography>"
        raise _invalid("xProxy-Resource-Scope", problem, "invalid_resource_scope")
    return value


def _choice(values: dict[str, str], name: str, default: str, other: str) -> bool:
    """Whether a header of two values has the one that is not the default; in any case."""
    value = values.get(name, default).lower()
    if value not in (default.lower(), other.lower()):
        raise _invalid(name, f"must be {default} or {other}", "invalid_header")
    return value == other.lower()


def _logging_disabled(values: dict[str, str]) -> bool:
    if values.get(LOGGING, "").lower() == "none":  # the SDK's text for what was not said
        return False
    return _choice(values, LOGGING, "False", "True")


def _property_map(values: dict[str, str], name: str) -> dict[str, str | None]:
    value = values.get(name)
    if value is None:
        return {}
    if len(value) > PROPERTIES_BYTES_MAX:
        raise _invalid(name, f"is longer than {PROPERTIES_BYTES_MAX} bytes", "invalid_properties")
    try:
        text = value.encode() if value.startswith("{") else _base64(value)
        properties = _properties.decode(text)
    except (ValueError, RecursionError):  # both decoders raise ValueErrors
        problem = (
            "must be a JSON object whose values are strings or null, as it is or in Base64, "
            'for example {"team":"search"}'
        )
        raise _invalid(name, problem, "invalid_properties") from None
    if len(properties) > PROPERTIES_MAX:
        problem = f"has {len(properties)} properties; at most {PROPERTIES_MAX} are allowed"
        raise _invalid(name, problem, "invalid_properties")
    for key, item in properties.items():
        _check_property(name, key, item or "")
    return properties


def _base64(value: str) -> bytes:
    """Decodes both alphabets, with or without padding; raises ValueError."""
    text = value.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _check_property(name: str, key: str, value: str) -> None:
    if not 1 <= len(key) <= PROPERTY_NAME_MAX or len(value) > PROPERTY_VALUE_MAX:
        problem = (
            f"has a property that is too long or has no name: names have 1 to {PROPERTY_NAME_MAX} "
            f"characters, values at most {PROPERTY_VALUE_MAX}"
        )
        raise _invalid(name, problem, "invalid_properties")
    if _CONTROL.search(key) or _CONTROL.search(value):
        problem = f"has control characters in property {_quoted(key)}; remove them"
        raise _invalid(name, problem, "invalid_properties")
