"""The framework's parts, bent to what this API promises.

- Paths are routed as they were sent, segments decoded afterwards: `a%2Fb` is one segment.
- Numbers keep every digit in both directions: `Decimal` from the body's text, to the answer's.
- Every answer carries `xproxy-request-id`.
"""

from dataclasses import replace
from decimal import Decimal
from typing import Any, cast
from urllib.parse import unquote

import msgspec
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import InternalServerException
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.types import Message, Receive, Scope, Send
from litestar.typing import FieldDefinition

from metering.api.auth import READING, Acting, visitor
from metering.api.faults import of_types
from metering.api.services import Caller, Services
from metering.api.text import has_control
from metering.core.addresses import client_address
from metering.core.ids import uuid7
from metering.errors import InvalidRequest
from metering.store.audit import Actor

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
BODY_BYTES_MAX = 1024 * 1024
"""Bodies of this API are small; the limit of proxied calls is a setting of its own."""


class ApiRequest(Request[Acting, Caller, State]):
    """A request of the control plane; `user` is whom it acts for, `auth` the key's caller."""

    async def body(self) -> bytes:
        """The body; none at all is an empty object."""
        try:
            return await super().body() or b"{}"
        except InternalServerException:  # the framework's word for it
            raise InvalidRequest("the client left before its request was whole") from None

    async def is_empty(self) -> bool:
        """Whether there is no body at all."""
        return not await super().body()

    async def json(self) -> Any:
        """The body, its fractions as exact Decimals, of the very types that the route takes."""
        try:
            body = _DECODER.decode(await self.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"Body JSON is invalid: {error}", code="invalid_json") from None
        taken = self.scope["route_handler"].parsed_data_field
        if taken is not None:
            check_types(body, taken.annotation)
        return body

    @property
    def services(self) -> Services:
        """The parts the application was built from. What is changed in the store is on record as
        changed by who asks, and but for an admin he is confined to his application there."""
        services = cast(Services, self.app.state.services)
        acting: Acting | None = self.scope.get("user")
        if acting is None:  # of what anyone may ask for
            return services
        if acting.is_admin:
            if self.method in READING:
                return services
            return replace(services, store=services.store.acting(self._actor))
        store = services.store.acting(self._actor, tenant=acting.application_id)
        return replace(services, store=store)

    @property
    def _actor(self) -> str:
        acting = self.user
        actor = Actor(
            role=acting.role,
            key_id=acting.key_id,
            address=self._address,
            request_id=self.request_id,
        )
        return msgspec.json.encode(actor).decode()

    @property
    def _address(self) -> str | None:
        services = cast(Services, self.app.state.services)
        return client_address(visitor(self.scope), services.settings.proxies()) or None

    @property
    def request_id(self) -> str:
        """This request's own id, as its answer carries it."""
        return str(self.scope["state"]["request_id"])


def check_types(value: Any, kind: Any) -> None:
    """Whether a value is of a type, the text "1" being no number; else say which member is not."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise of_types(error) from None


class ExactResponse(Response[Any]):
    """An answer whose Decimals are JSON numbers, digit for digit."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:  # noqa: ARG002
        """The bytes of an answer; text and bytes are taken as they are."""
        if isinstance(content, bytes):
            return content
        if content is None:
            return b""
        return content.encode() if isinstance(content, str) else _ENCODER.encode(content)


class DecimalSchema(OpenAPISchemaPlugin):
    """Describes Decimal as the JSON number it is on this wire."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Whether this plugin describes a type."""
        return value is Decimal

    def to_openapi_schema(
        self,
        field_definition: FieldDefinition,  # noqa: ARG002 - the plugin's signature
        schema_creator: Any,  # noqa: ARG002
    ) -> Schema:
        """The schema of Decimal."""
        return Schema(type=OpenAPIType.NUMBER)


class ManagementApi(Litestar):
    """Litestar, routing the raw path, with a request id on every answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (or the lifespan)."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        services: Services = self.state.services
        request_id = str(uuid7(services.clock(), services.random(10)))
        header = (b"xproxy-request-id", request_id.encode())

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], header]
            await send(message)

        raw_path = scope.get("raw_path") or scope["path"].encode()
        routed = {
            **scope,
            "path": raw_path.partition(b"?")[0].decode("latin-1"),
            "state": {**scope.get("state", {}), "request_id": request_id},
        }
        await super().__call__(cast(Scope, routed), receive, stamped)


async def decode_segments(request: Request[Any, Any, Any]) -> None:
    """Percent-decode the path's parameters, after routing."""
    parameters = {
        name: unquote(str(value), errors="surrogateescape")
        for name, value in request.scope["path_params"].items()
    }
    for name, value in parameters.items():
        if has_control(value):
            raise InvalidRequest(f"{name} in the path has a control character", field=name)
    for name, value in request.query_params.multi_items():
        if has_control(value):
            raise InvalidRequest(f"{name} in the query has a control character", field=name)
    request.scope["path_params"] = parameters
