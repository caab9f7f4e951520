"""LiteLLM's pass-through surface: a provider's own API below one prefix, with LiteLLM's additions.

| what a call says       | where, the first that says something counts                           |
|------------------------|-----------------------------------------------------------------------|
| our key                | xProxy-Api-Key, x-litellm-api-key, then the provider's slots          |
| its end user, who is   | xProxy-Account-Name, x-litellm-customer-id, x-litellm-end-user-id,    |
| our customer           | `litellm_metadata.user`, the provider's own member                    |
| tags, which add up     | xProxy-Request-Tags, x-litellm-tags, `litellm_metadata.tags`          |

All other `xProxy-*` headers mean what they mean elsewhere. `litellm_metadata` stays here; what else
it holds is ignored. An end user is the call's user too, unless its key is a user's own: what is
attached to that name as a customer or as a user binds the call.

Errors are the provider's own, so that its SDK reads them, with our members after `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from metering import __version__
from metering.core.annotations import TAGS_MAX, TEXT_MAX, Annotations, annotate, is_text
from metering.core.headers import header_text
from metering.core.limits import Limit, Refused
from metering.core.result import digits, splice_result
from metering.errors import InvalidRequest
from metering.surfaces.base import Shown, Surface
from metering.surfaces.grammars import anthropic_body, openai_body

METADATA = "litellm_metadata"
TAGS = b"x-litellm-tags"
KEY_SPEND = b"x-litellm-key-spend"
END_USER = (b"x-litellm-customer-id", b"x-litellm-end-user-id")
TEXT_RULE = f"at most {TEXT_MAX} characters without control characters"


class _Metadata(msgspec.Struct, gc=False):
    tags: list[str] | None = None
    user: str | None = None


_metadata = msgspec.json.Decoder(_Metadata | None)
_NOTHING = _Metadata()


class PassThrough(Surface):
    """A provider below one prefix; a subclass has its grammar. See `base.Surface`."""

    name = "litellm"
    key_headers = (b"xproxy-api-key", b"x-litellm-api-key")
    members = (METADATA,)
    permanent = ((b"x-litellm-version", __version__.encode()),)
    end_user: str
    """The provider's own member for whom a call is for."""

    def annotate(self, headers: Sequence[tuple[bytes, bytes]]) -> Annotations:
        """See `base.Surface`."""
        said = annotate(headers)
        tags = [tag for name, value in headers if name == TAGS for tag in _listed(value)]
        users = [
            (name, header_text(value)) for it in END_USER for name, value in headers if name == it
        ]
        name, user = next(((name, text) for name, text in users if text), (b"", None))
        if not tags and user is None:
            return said
        return msgspec.structs.replace(
            said,
            tags=_tags(said.tags, tags, "Header x-litellm-tags"),
            account_name=said.account_name or _end_user(user, f"Header {name.decode()}"),
        )

    def complete(
        self,
        said: Annotations,
        members: Mapping[str, msgspec.Raw],
        *,
        end_user: str | None,
        key_user: str | None,
    ) -> Annotations:
        """See `base.Surface`."""
        metadata = _read(members[METADATA]) if members else _NOTHING
        customer = (
            said.account_name
            or _end_user(metadata.user, f"Request field '{METADATA}.user'")
            or _end_user(end_user, f"Request field '{self.end_user}'")
        )
        tags = said.tags
        if metadata.tags:
            tags = _tags(tags, metadata.tags, f"Request field '{METADATA}.tags'")
        if customer is None and tags is said.tags:
            return said
        user = said.user_id or (None if key_user else customer)
        return msgspec.structs.replace(said, tags=tags, account_name=customer, user_id=user)

    def about_key(
        self,
        limits: Sequence[Limit],
        limit_ids: Sequence[str],
        spent: Callable[[Limit], int | None],
    ) -> Sequence[tuple[bytes, bytes]]:
        """See `base.Surface`."""
        budget = _budget(limits, limit_ids)
        if budget is None:
            return self.permanent
        told = [*self.permanent, (b"x-litellm-key-max-budget", digits(budget.max))]
        settled = spent(budget)
        if settled is not None:
            told.append((KEY_SPEND, digits(settled)))
        return told

    def about_spend(
        self, refused: Refused, limits: Sequence[Limit], limit_ids: Sequence[str]
    ) -> Sequence[tuple[bytes, bytes]]:
        """See `base.Surface`."""
        budget = _budget(limits, limit_ids)
        spent = [it.settled for it in refused.refusals if budget and it.limit_id == budget.limit_id]
        return [(KEY_SPEND, digits(it)) for it in spent]

    def provider_error(self, status: int, body: bytes, result: bytes) -> bytes:  # noqa: ARG002
        """See `base.Surface`. What is no JSON object stays as it is."""
        return splice_result(body, result) or body


def _budget(limits: Sequence[Limit], limit_ids: Sequence[str]) -> Limit | None:
    """A key's budget: of its own limits, the first in USD that blocks."""
    for limit in limits:
        if limit.binding and limit.unit == "usd" and limit.limit_id in limit_ids:
            return limit
    return None


def _listed(value: bytes) -> list[str]:
    return header_text(value).split(",")


def _read(member: msgspec.Raw) -> _Metadata:
    try:
        return _metadata.decode(member) or _NOTHING
    except (ValueError, RecursionError):
        raise _invalid(
            f"Request field '{METADATA}'", "must be an object whose tags are a list of strings"
        ) from None


def _tags(said: tuple[str, ...], more: Iterable[str], where: str) -> tuple[str, ...]:
    """All of them, each once; those of LiteLLM's clients may be any text (`jobID:214590`)."""
    named = [tag for it in more if (tag := it.strip())]
    if not all(map(is_text, named)):
        raise _invalid(where, f"has a tag that is not {TEXT_RULE}", "invalid_tags")
    tags = tuple(dict.fromkeys((*said, *named)))
    if len(tags) > TAGS_MAX:
        raise _invalid(where, f"makes it {len(tags)} tags; at most {TAGS_MAX} pass", "invalid_tags")
    return tags


def _end_user(said: str | None, where: str) -> str | None:
    user = said.strip() if said else None
    if user and not is_text(user):
        raise _invalid(where, f"must be {TEXT_RULE}", "invalid_user_id")
    return user or None


def _invalid(where: str, problem: str, code: str = "invalid_request_field") -> InvalidRequest:
    field = where.removeprefix("Header ").removeprefix("Request field ").strip("'")
    return InvalidRequest(f"{where} {problem}", code=code, field=field)


class Anthropic(PassThrough):
    """`/anthropic/...`: https://api.anthropic.com and Anthropic's errors."""

    roots = ("/anthropic/",)
    end_user = "metadata.user_id"
    prefixes: ClassVar = {"/anthropic/": ("anthropic", "/")}

    def body(self, shown: Shown) -> bytes:
        """See `base.Surface`."""
        return anthropic_body(shown)


class OpenAI(PassThrough):
    """`/openai/...`: https://api.openai.com, with or without its `/v1`, and OpenAI's errors."""

    roots = ("/openai/", "/openai_passthrough/")
    end_user = "user"
    prefixes: ClassVar = {root + part: ("openai", "/v1/") for root in roots for part in ("v1/", "")}

    def body(self, shown: Shown) -> bytes:
        """See `base.Surface`."""
        return openai_body(shown)


ANTHROPIC = Anthropic()
OPENAI = OpenAI()
