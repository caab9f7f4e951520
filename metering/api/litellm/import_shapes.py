"""What is brought along from a LiteLLM database, on the wire; money is USD, exact."""

from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from metering.api.litellm.holder_shapes import AskedHolder
from metering.api.litellm.key_shapes import AskedKey
from metering.core.money import parse_usd
from metering.errors import InvalidRequest
from metering.store.profiles import Kind

Outcome = Literal["imported", "unchanged", "exists", "refused"]
"""What became of it: it is here now; it had been imported before; there is one of this name that
was not, which stays as it is; it is not here, for a reason that is given."""
SPEND_MAX_PICO = 2**63 - 1


class ImportedHolder(AskedHolder, kw_only=True):
    """A team, a user or a customer with what was spent for him, or a budget."""

    kind: Kind
    name: str
    team_alias: str | UnsetType | None = UNSET
    user_alias: str | UnsetType | None = UNSET
    user_email: str | UnsetType | None = UNSET
    user_role: str | UnsetType | None = UNSET
    alias: str | UnsetType | None = UNSET
    created_at: str | None = None
    spend: Decimal = Decimal(0)
    """In the present window of his budget."""
    window_spend: dict[str, Decimal] = msgspec.field(default_factory=dict)
    """The same of `budget_limits`, by their `budget_duration`."""


class ImportedKey(AskedKey, kw_only=True):
    """A key with what was spent with it."""

    token: str
    """LiteLLM's hash of it: the key itself it does not have."""
    role: Literal["app", "read"] = "app"
    last4: str = ""
    expires_at: str | None = None
    created_at: str | None = None
    spend: Decimal = Decimal(0)
    window_spend: dict[str, Decimal] = msgspec.field(default_factory=dict)


class ImportedDay(msgspec.Struct, kw_only=True):
    """What was spent on a day with a key, for a user, on a model."""

    id: str
    """Whatever tells it from others, always the same."""
    date: str
    token: str | None = None
    user_id: str | None = None
    model: str | None = None
    provider: str | None = None
    endpoint: str | None = None
    spend: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    requests: int = 0


class Import(msgspec.Struct, kw_only=True):
    """A part of a database: what others refer to comes first."""

    holders: list[ImportedHolder] = []
    keys: list[ImportedKey] = []
    days: list[ImportedDay] = []
    dry_run: bool = False
    """Say what would become of it, and change nothing."""


class Imported(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of one of them."""

    kind: str
    name: str
    outcome: Outcome
    message: str | None = None
    token: str | None = None
    """Of a key: its id here."""
    opened: Decimal | None = None
    """What its budget begins with."""


class ImportAnswer(msgspec.Struct, kw_only=True):
    """What became of a part of a database, in its order."""

    request_id: str
    results: list[Imported]


def spent_pico(amount: Decimal) -> int:
    """What was spent, in pico-USD; raises InvalidRequest."""
    pico = parse_usd(amount, "spend")
    if pico > SPEND_MAX_PICO:
        raise InvalidRequest("spend is more than $9.2 million, which no row has", field="spend")
    return pico
