"""Teams, users, customers and budgets on LiteLLM's wire: bodies, and what answers show."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from metering.api.caps import Counted
from metering.api.key_shapes import checked_label
from metering.api.litellm.holdings import budgets
from metering.api.litellm.key_shapes import BudgetTable, KeyView, ShownWindow, table, windows
from metering.api.litellm.shapes import AskedTerms, read_metadata, said, shown_moment
from metering.core.terms import Holder, Terms, prefix
from metering.store.profiles import Profile

SHOWN = ("team_alias", "user_alias", "user_email", "user_role", "alias")
"""Members that nothing is decided by."""


class AskedHolder(AskedTerms, kw_only=True):
    """What may be asked for of a team, a user or a customer."""

    models: list[str] | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET

    def details(self) -> dict[str, Any]:
        """What of it is only ever shown, checked."""
        return {
            name: checked_label(value or None, name)
            for name, value in said(self).items()
            if name in SHOWN
        }


class NewTeam(AskedHolder, kw_only=True):
    """The body of a new team."""

    team_id: str | None = None
    team_alias: str | UnsetType | None = UNSET


class UpdateTeam(NewTeam, kw_only=True):
    """The body of a change of a team."""

    team_id: str


class OneTeam(msgspec.Struct, kw_only=True):
    """A body that names a team."""

    team_id: str


class SomeTeams(msgspec.Struct, kw_only=True):
    """A body that names teams."""

    team_ids: list[str]


class NewUser(AskedHolder, kw_only=True):
    """The body of a new user, who gets a key unless `auto_create_key` is false."""

    user_id: str | None = None
    user_alias: str | UnsetType | None = UNSET
    user_email: str | UnsetType | None = UNSET
    user_role: str | UnsetType | None = UNSET
    auto_create_key: bool = True
    key_alias: str | None = None
    duration: str | None = None
    team_id: str | None = None
    aliases: dict[str, str] | None = None


class UpdateUser(AskedHolder, kw_only=True):
    """The body of a change of a user."""

    user_id: str
    user_alias: str | UnsetType | None = UNSET
    user_email: str | UnsetType | None = UNSET
    user_role: str | UnsetType | None = UNSET


class SomeUsers(msgspec.Struct, kw_only=True):
    """A body that names users, or customers."""

    user_ids: list[str]


class NewCustomer(AskedHolder, kw_only=True):
    """The body of a new customer, or of a change of one."""

    user_id: str
    alias: str | UnsetType | None = UNSET


class NewBudget(AskedTerms, kw_only=True):
    """The body of a new budget, or of a change of one."""

    budget_id: str | None = None


class SomeBudgets(msgspec.Struct, kw_only=True):
    """A body that names budgets."""

    budgets: list[str]


class OneBudget(msgspec.Struct, kw_only=True):
    """A body that names a budget."""

    id: str


class HolderView(msgspec.Struct, kw_only=True):
    """What is set of somebody, and what his limits say."""

    spend: Decimal
    max_budget: Decimal | None
    soft_budget: Decimal | None
    budget_duration: str | None
    budget_reset_at: datetime | None
    budget_limits: list[ShownWindow] | None
    budget_id: str | None
    litellm_budget_table: BudgetTable | None
    models: list[str]
    metadata: dict[str, Any]
    tpm_limit: int | None
    rpm_limit: int | None
    max_parallel_requests: int | None
    blocked: bool
    created_at: datetime | None
    created_by: str | None
    updated_at: datetime | None
    updated_by: str | None
    xproxy_ignored: list[str] = []


class TeamView(HolderView, kw_only=True):
    """A team."""

    team_id: str
    team_alias: str | None
    members_with_roles: list[Any] = []


class UserView(HolderView, kw_only=True):
    """A user."""

    user_id: str
    user_alias: str | None
    user_email: str | None
    user_role: str | None
    teams: list[str] = []


class CreatedUser(UserView, kw_only=True):
    """A user, with the key that was made for him."""

    key: str | None = None
    key_name: str | None = None
    key_alias: str | None = None
    token: str | None = None
    token_id: str | None = None
    expires: datetime | None = None


class CustomerView(HolderView, kw_only=True):
    """A customer."""

    user_id: str
    alias: str | None


class BudgetView(BudgetTable, kw_only=True):
    """A budget."""

    created_at: datetime | None
    created_by: str | None
    updated_at: datetime | None
    updated_by: str | None
    xproxy_ignored: list[str] = msgspec.field(default_factory=list)


class TeamInfo(msgspec.Struct, kw_only=True):
    """The answer about one team."""

    team_id: str
    team_info: TeamView
    keys: list[KeyView]
    team_memberships: list[Any] = []


class ChangedTeam(msgspec.Struct, kw_only=True):
    """A team that was changed."""

    team_id: str
    data: TeamView


class UserInfo(msgspec.Struct, kw_only=True):
    """The answer about one user."""

    user_id: str
    user_info: UserView
    keys: list[KeyView]
    teams: list[Any] = []


class ChangedUser(msgspec.Struct, kw_only=True):
    """A user that was changed."""

    user_id: str
    data: UserView


class UserList(msgspec.Struct, kw_only=True):
    """A page of users."""

    users: list[UserView]
    total: int
    page: int
    page_size: int
    total_pages: int


class DeletedTeams(msgspec.Struct, kw_only=True):
    """The teams that are no more."""

    deleted_teams: list[str]


class DeletedCustomers(msgspec.Struct, kw_only=True):
    """How many customers are no more."""

    deleted_customers: int
    message: str


class BlockedCustomers(msgspec.Struct, kw_only=True):
    """The customers that were blocked, or let in again."""

    blocked_users: list[CustomerView]


def members(
    profile: Profile, limit_ids: Sequence[str], found: Counted, of_budgets: Mapping[str, Terms]
) -> dict[str, Any]:
    """The members of a `HolderView`: `found` has his limits, `of_budgets` the terms of budgets."""
    holder: Holder = profile.kind  # type: ignore[assignment]
    begin, details = prefix(holder, profile.name), profile.details
    money = budgets(begin, limit_ids, found)
    budget = of_budgets.get(profile.terms.budget_id or "")
    shown = windows(profile.terms, begin, profile.created_ms, limit_ids, found)
    return {
        "spend": Decimal(0) if money.spend is None else money.spend,
        "max_budget": money.max_budget,
        "soft_budget": money.soft_budget,
        "budget_duration": profile.terms.over(budget).budget_duration,
        "budget_reset_at": money.budget_reset_at,
        "budget_limits": [it for it, _ in shown] or None,
        "budget_id": profile.terms.budget_id,
        "litellm_budget_table": table(profile.terms.budget_id, budget),
        "models": list(profile.models),
        "metadata": read_metadata(details.get("metadata")),
        "tpm_limit": profile.rate_limits.get("tokens"),
        "rpm_limit": profile.rate_limits.get("requests"),
        "max_parallel_requests": profile.rate_limits.get("parallel"),
        "blocked": profile.blocked,
        **dates(profile),
    }


def dates(profile: Profile) -> dict[str, Any]:
    """When it was made and changed, and by whom."""
    return {
        "created_at": shown_moment(profile.created_ms),
        "created_by": profile.details.get("created_by"),
        "updated_at": shown_moment(profile.updated_ms),
        "updated_by": profile.details.get("updated_by"),
    }


def budget_view(profile: Profile, ignored: list[str] | None = None) -> BudgetView:
    """A budget as answers show it."""
    shown = table(profile.name, profile.terms)
    its = {} if shown is None else msgspec.structs.asdict(shown)
    return BudgetView(**its, **dates(profile), xproxy_ignored=ignored or [])
