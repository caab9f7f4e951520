"""The frozen fact of one call: what becomes one usage row.

It is encoded once (msgpack, positional) and travels in Redis as the hold's and the outbox's
payload; fields are therefore only ever appended, with defaults.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from metering.core.limits import Refusal

Status = Literal["ok", "failed", "blocked", "unresolved"]
INGEST = "ingest"
"""The surface of calls that were made elsewhere and reported here."""
UPSERT = "upsert:"
"""What the name of a correction begins with that has a reported call be as it was reported last."""
WAS, NOW = ":was", ":now"
"""What the names of two corrections end in that move a call from some sums to others: it is taken
back as it was, and put down as it is. They count as calls, as `calls_of` in the schema has it."""
Pricing = Literal["priced", "unpriced", "free", "unmetered"]


class UsageRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One entry of the usage ledger. Costs in pico-USD, times in milliseconds."""

    application_id: str
    request_id: str
    """UUIDv7 text; its time is the call's admission."""
    attempt: int = 1
    entry: str = "call"
    """`call`, or the deterministic name of a signed correction (`late`, `reprice:RUN`,
    `upsert:RUN:was`)."""
    at_ms: int = 0
    key_id: str | None = None
    surface: str = "payi"
    provider: str = ""
    category: str = ""
    method: str = "POST"
    endpoint: str = ""
    """The provider's path, without query: `/v1/chat/completions`."""
    streamed: bool = False
    status: Status = "ok"
    http_status: int | None = None
    error_code: str | None = None
    pricing: Pricing = "priced"
    estimated: bool = False
    model_requested: str | None = None
    model: str | None = None
    """The model that was priced: the response's, or the price-as resource."""
    price_as_category: str | None = None
    price_as_resource: str | None = None
    price_id: str | None = None
    """The dated price that was applied; Pay-i's `resource_id`."""
    service_tier: str | None = None
    scope: str | None = None
    units: dict[str, int] = {}
    """Disjoint leaves: how many of each billable unit."""
    lines: dict[str, int] = {}
    """Pico-USD per billable unit; their sum is `cost_pico`."""
    input_pico: int = 0
    output_pico: int = 0
    cost_pico: int = 0
    warnings: list[str] = []
    provider_id: str | None = None
    """The id in the provider's answer: `chatcmpl-...`, `msg_...`."""
    user_id: str | None = None
    account_name: str | None = None
    use_case_name: str | None = None
    use_case_id: str | None = None
    use_case_version: int | None = None
    use_case_step: str | None = None
    tags: list[str] = []
    properties: dict[str, str | None] = {}
    use_case_properties: dict[str, str | None] = {}
    latency_ms: int | None = None
    ttft_ms: int | None = None
    provider_host: str | None = None
    """The host that was called, if the caller chose it."""
    price_version: str | None = None
    """The version of the price list that `price_id` is of: `3-1f3a9c0b2d4e`."""
    credential: str | None = None
    """The slug of the stored credential that served the call, if one did: `env-openai`."""
    limit_costs: dict[str, tuple[int, int]] = {}
    """Input and output, in pico-USD, that limits with own rates are charged in place of the row's:
    by limit id, and empty for nearly every call. Read it with `cost_for`."""
    refusals: list[Refusal] = []
    """The limits that refused the call, with the numbers that prove it."""
    retry_count: int | None = None
    """How often the caller's SDK had tried before; None: it does not say."""
    ttfct_ms: int | None = None
    """To the first token of the completion, as whoever reported the call says: reasoning aside."""

    def cost_for(self, limit_id: str) -> tuple[int, int]:
        """Input and output, in pico-USD, that a limit in usd is charged for this."""
        return self.limit_costs.get(limit_id) or (self.input_pico, self.output_pico)


encode_row = msgspec.msgpack.Encoder().encode
"""UsageRow -> bytes."""
decode_row = msgspec.msgpack.Decoder(UsageRow).decode
"""bytes -> UsageRow."""
