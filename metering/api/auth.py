"""Who may do what: one guard on the whole application, which denies by default.

The key comes from `xProxy-Api-Key`, else from `x-portkey-api-key` or `x-litellm-api-key`, else from
`Authorization` (raw, as the first SDKs sent it, or `Bearer`). `admin` may do everything, for the
default application or the one it names (by id or name) as `?application=` or `xProxy-Application`;
`app` works on its own application; `read` only reads there.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Scope

from metering.api.services import Caller, Services
from metering.api.text import has_control
from metering.core.addresses import Visitor
from metering.errors import InvalidApiKey, NotAllowed, NotFound
from metering.store import applications

PUBLIC = frozenset(
    {
        *("/health/live", "/health/ready"),
        *("/schema", "/schema/openapi.json", "/schema/page", "/schema/{path}"),
    }
)
"""The route templates anyone may ask for. Everything else needs a key."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that change nothing."""

Connection = ASGIConnection[Any, Any, Any, Any]


@dataclass(frozen=True)
class Acting:
    """For which application a request acts, and with what rights."""

    application_id: str
    key_id: str | None
    role: str
    limit_ids: tuple[str, ...] = ()
    named: bool = False
    """Whether the request itself names the application."""

    @property
    def scope(self) -> str | None:
        """What a listing may show: one application, or (None) all, for an admin who names none."""
        return None if self.is_admin and not self.named else self.application_id

    @property
    def is_admin(self) -> bool:
        """Whether the key may do everything."""
        return self.role == "admin"


async def guard(connection: Connection, _: BaseRouteHandler) -> None:
    """Let a request through if its key may do this; leaves `user` (Acting) and `auth` (Caller)."""
    if connection.scope["path_template"] in PUBLIC:
        return
    services = cast(Services, connection.app.state.services)
    caller = await _caller(connection, services)
    if caller.role == "read" and connection.scope.get("method") not in READING:
        raise NotAllowed("This key only reads; use one of role app or admin")
    connection.scope["auth"] = caller
    connection.scope["user"] = await _acting(connection, services, caller)


async def admin_only(connection: Connection, _: BaseRouteHandler) -> None:
    """A second guard, of the routes that only an admin key may use."""
    if not cast(Acting, connection.scope["user"]).is_admin:
        raise NotAllowed("This needs a key of role admin")


async def callers_only(connection: Connection, _: BaseRouteHandler) -> None:
    """A second guard, of what was said in calls: a key that only reads sees what they cost."""
    if cast(Acting, connection.scope["user"]).role == "read":
        raise NotAllowed("This key does not see what was said in calls; use one of role app")


def presented_key(headers: Any) -> str:
    """The key a request shows, or an empty string."""
    key: str = headers.get("xproxy-api-key", "").strip()
    key = key or headers.get("x-portkey-api-key", "").strip()
    if key:
        return key
    authorization: str = (
        headers.get("x-litellm-api-key", "").strip() or headers.get("authorization", "").strip()
    )
    scheme, _, rest = authorization.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else authorization


def visitor(scope: Scope) -> Visitor:
    """Who asks, as far as connection and headers tell."""
    client = scope["client"]
    return Visitor(client[0] if client else "", [*scope["headers"]])


async def _caller(connection: Connection, services: Services) -> Caller:
    key = presented_key(connection.headers)
    caller = await services.directory.admit(key, visitor(connection.scope)) if key else None
    if caller is None:
        raise InvalidApiKey(
            "Your api key is invalid, missing, or expired. Send it as xProxy-Api-Key; "
            "make one with: xproxy keys create"
        )
    return caller


async def _acting(connection: Connection, services: Services, caller: Caller) -> Acting:
    named = connection.query_params.get("application") or connection.headers.get(
        "xproxy-application"
    )
    own = caller.application_id
    acting = Acting(own, caller.key_id, caller.role, caller.limit_ids, named=bool(named))
    if not named or named == own:
        return acting
    if caller.role == "admin" and not has_control(named):
        found = await applications.get(services.store, named)
        found = found or await applications.by_name(services.store, named)
        if found is not None:
            return replace(acting, application_id=found.application_id)
    raise NotFound(
        f"Application {named!r} not found", code="application_not_found", field="application"
    )
