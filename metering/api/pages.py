"""Pages of a listing: `{request_id, items, cursor}`, the cursor opaque, signed, absent at the end.

A cursor names the place in one listing of one application. One that was made elsewhere, altered
or garbled is not an error: it is the first page, as the clients of this API expect.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Any, NamedTuple

from litestar.params import FromQuery

from metering.api.server import ApiRequest

_SIGNATURE_CHARS = 22


class Paging(NamedTuple):
    """Which page of a listing is asked for."""

    limit: int | None
    cursor: str | None
    ascending: bool | None
    """None: in the listing's own order."""

    def of(
        self, request: ApiRequest, listing: str, *, page_size: int | None = None
    ) -> dict[str, Any]:
        """The same, as the store takes it: newest first unless asked. `page_size`: of a listing
        whose pages have a size of their own."""
        return {
            "page_size": self.limit if self.limit and self.limit > 0 else page_size,
            "cursor": read_cursor(request, listing, self.cursor),
            "ascending": bool(self.ascending),
        }


async def paging(
    *,
    limit: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
    sort_ascending: FromQuery[bool | None] = None,
) -> Paging:
    """What every listing's query may say of its pages."""
    return Paging(limit, cursor, sort_ascending)


def _signature(request: ApiRequest, listing: str, place: str) -> str:
    application_id = request.user.scope or "*"
    message = f"{listing}\0{application_id}\0{place}".encode(errors="surrogatepass")
    secret = request.services.cursor_secret
    return urlsafe_b64encode(hmac.digest(secret, message, hashlib.sha256)).decode()[
        :_SIGNATURE_CHARS
    ]


def read_cursor(request: ApiRequest, listing: str, cursor: str | None) -> str | None:
    """The store's place in a cursor of `listing`; None, so the first page, if it is not ours."""
    if not cursor:
        return None
    signature, place = cursor[:_SIGNATURE_CHARS], cursor[_SIGNATURE_CHARS:]
    expected = _signature(request, listing, place)
    return place if hmac.compare_digest(signature.encode(), expected.encode()) else None


def write_cursor(request: ApiRequest, listing: str, place: str | None) -> str | None:
    """The cursor that continues `listing` at the store's place; None at the end."""
    return None if place is None else _signature(request, listing, place) + place


def page(
    request: ApiRequest, listing: str, items: list[Any], place: str | None, **members: Any
) -> dict[str, Any]:
    """The envelope of a page."""
    envelope: dict[str, Any] = {"request_id": request.request_id, **members, "items": items}
    cursor = write_cursor(request, listing, place)
    if cursor is not None:
        envelope["cursor"] = cursor
    return envelope
