"""`/secret`: the master secret, which is never shown; its id is. For admins alone."""

from typing import Any

from litestar import Controller, get, post

from metering.api.auth import admin_only
from metering.api.server import ApiRequest
from metering.store import audit


class SecretController(Controller):
    """Look at the master secret, and rotate it."""

    path = "/secret"
    tags = ("secret",)
    guards = (admin_only,)

    @get()
    async def read(self, request: ApiRequest) -> dict[str, Any]:
        """The ids of the master secrets that this worker holds, and how much each wraps."""
        vault = request.services.vault
        return {
            "request_id": request.request_id,
            "held": [master.id for master in vault.keyring.masters],
            "wrapped": await vault.wrapped(),
        }

    @post("/rotate", status_code=200)
    async def rotate(self, request: ApiRequest) -> dict[str, Any]:
        """Have the next master secret wrap everything, without a pause."""
        services = request.services
        rotated = await services.vault.rotate(services.store)
        particulars = {"before": rotated.before, "credentials": rotated.credentials}
        named = ("master_secret", rotated.now)
        await audit.note(services.store, None, "rotated", named, particulars)
        return {
            "request_id": request.request_id,
            "before": rotated.before,
            "now": rotated.now,
            "credentials": rotated.credentials,
        }
