"""Whether the service lives and whether it should be given work; open to anyone."""

from typing import Any

from litestar import Controller, get

from metering.api.server import ApiRequest, ExactResponse


class HealthController(Controller):
    """`/health/live` and `/health/ready`."""

    path = "/health"
    tags = ("health",)

    @get("/live")
    async def live(self) -> dict[str, str]:
        """200 while the process answers at all."""
        return {"status": "ok"}

    @get("/ready")
    async def ready(self, request: ApiRequest) -> ExactResponse:
        """200 when the service can take calls, else 503 and what stands in the way."""
        problems = list(await request.services.readiness.problems())
        content: dict[str, Any] = {"status": "unavailable" if problems else "ok"}
        if problems:
            content["problems"] = problems
        return ExactResponse(
            content,
            status_code=503 if problems else 200,
            headers={"Cache-Control": "no-store", **({"Retry-After": "1"} if problems else {})},
        )
