"""A small client of the management API, for the commands.

It finds the service (an address that was given, else the run file in the data directory) and
something to show it: a key that was given, else a token made on the spot from the data directory's
master secret. Such a token goes to the address in the run file only, never to one that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx
import msgspec

RUN_FILE = "run.json"
SECRET_FILE = "master.secret"  # noqa: S105 - a name, not the secret
TIMEOUT_S = 30.0
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class _RunFile(msgspec.Struct):
    url: str


class _Fault(msgspec.Struct):
    message: str
    xproxy_error: dict[str, str] = {}


class ClientError(Exception):
    """The service refused, did not answer, or was not found; the message is one line for people."""


class Client:
    """Speaks JSON with the management API, numbers exact; raises ClientError with one line."""

    def __init__(
        self,
        url: str,
        credential: Callable[[], str],
        *,
        application: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`credential` is asked before every request; `application` is whom an admin acts for."""
        self.url = url.rstrip("/")
        self._credential = credential
        self._application = application
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT_S, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, *path: str, **query: object) -> dict[str, Any]:
        """GET a path of segments, which are percent-encoded; queries that are None are left out."""
        return cast(dict[str, Any], _json(self._send("GET", path, query)))

    def post(
        self,
        *path: str,
        body: Mapping[str, object] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Any]:
        """POST a JSON body."""
        answer = self._send("POST", path, {}, body or {}, timeout_s)
        return cast(dict[str, Any], _json(answer))

    def put(
        self, *path: str, body: Mapping[str, object], query: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """PUT a JSON body; queries that are None are left out."""
        return cast(dict[str, Any], _json(self._send("PUT", path, query or {}, body)))

    def patch(self, *path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """PATCH a JSON body."""
        return cast(dict[str, Any], _json(self._send("PATCH", path, {}, body)))

    def delete(self, *path: str, **query: object) -> dict[str, Any]:
        """DELETE; queries that are None are left out."""
        return cast(dict[str, Any], _json(self._send("DELETE", path, query)))

    def csv(self, *path: str, **query: object) -> tuple[str, str | None]:
        """GET a page as CSV: its text, and the cursor of the next one."""
        response = self._send("GET", path, {**query, "format": "csv"})
        return response.text, response.headers.get("xproxy-cursor")

    def items(self, *path: str, **query: object) -> Iterator[dict[str, Any]]:
        """Every item of a listing, page after page."""
        cursor: str | None = None
        while True:
            page = self.get(*path, **{**query, "cursor": cursor})
            yield from page["items"]
            cursor = page.get("cursor")
            if not cursor or not page["items"]:
                return

    def _send(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, object],
        body: Mapping[str, object] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> httpx.Response:
        headers = {"xProxy-Api-Key": self._credential()}
        if self._application:
            headers["xProxy-Application"] = self._application
        try:
            response = self._http.request(
                method,
                "/api/v1/" + "/".join(quote(segment, safe="") for segment in path),
                params={name: _text(value) for name, value in query.items() if value is not None},
                headers=headers,
                content=None if body is None else encode(body),
                timeout=timeout_s,
            )
        except httpx.HTTPError as error:
            raise ClientError(
                f"No answer from {self.url} ({str(error) or type(error).__name__}); "
                "is it running? Start it with: xproxy serve"
            ) from error
        if response.is_error:
            raise ClientError(_refusal(response))
        return response


def encode(value: object) -> bytes:
    """JSON of a value, Decimals as numbers, digit for digit."""
    return _ENCODER.encode(value)


def find(
    url: str | None,
    api_key: str | None,
    data_dir: Path,
    sign: Callable[[bytes], str],
    *,
    master_secret: str | None = None,
    application: str | None = None,
) -> Client:
    """A client for the service that was named, or else for the one of the data directory.

    `sign` makes a local token of a master secret (the one given, or the data directory's own);
    raises ClientError if there is nothing to go by.
    """
    running = _running(data_dir)
    address = url or running
    if address is None:
        raise ClientError(
            f"No running service found (no {data_dir / RUN_FILE}); "
            "start one with `xproxy serve`, or name it with --url or XPROXY_URL"
        )
    if api_key:
        return Client(address, lambda: api_key, application=application)
    secret = None
    if address == running:
        secret = master_secret.encode() if master_secret else _secret(data_dir)
    if secret is None:
        raise ClientError(f"No key for {address}: set XPROXY_API_KEY to an admin key")
    return Client(address, lambda: sign(secret), application=application)


def _running(data_dir: Path) -> str | None:
    try:
        found = msgspec.json.decode((data_dir / RUN_FILE).read_bytes(), type=_RunFile)
    except (OSError, msgspec.MsgspecError):
        return None
    return found.url


def _secret(data_dir: Path) -> bytes | None:
    try:
        lines = (data_dir / SECRET_FILE).read_bytes().split()
    except OSError:
        return None
    return lines[0] if lines else None  # another beside it is one that comes into force


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(response: httpx.Response) -> Any:
    try:
        return _DECODER.decode(response.content)
    except msgspec.DecodeError:
        raise ClientError(f"{response.url} did not answer in JSON; is it an xproxy?") from None


def _refusal(response: httpx.Response) -> str:
    try:
        fault = msgspec.json.decode(response.content, type=_Fault)
    except msgspec.MsgspecError:
        return f"{response.url} answered {response.status_code}; is it an xproxy?"
    code = fault.xproxy_error.get("code", "")
    return f"{fault.message} ({response.status_code} {code})".replace("\n", " ")
