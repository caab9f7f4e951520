"""All seven counters of a limit, from calls that end in each state; and what a reset keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from payi import Payi

from tests.acceptance.tenant import CHAT, Tenant
from tests.standin.process import Standin

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}
EACH = Decimal("0.15")
"""What a million tokens of it cost."""
STATES = ("failed", "blocked_external", "ok", "ok", "exceeded", "overrun", "blocked")


def call(tenant: Tenant, limit_ids: str) -> str:
    """A call's state of the limit `team`."""
    answer = tenant.post(CHAT, BODY, {"xProxy-Limit-IDs": limit_ids})
    state: str = answer.json()["xproxy_result"]["limits"]["team"]["state"]
    return state


def test_each_state_is_counted_once(tenant: Tenant, standin: Standin) -> None:
    """A call that fails; one that another limit refuses; under the threshold, over it, over max;
    and refused by the limit itself. Each adds one to its own counter and to `total`, and the money
    is of those that were answered."""
    used = {"usage": {"prompt_tokens": 10**6, "completion_tokens": 0}}
    with Payi(api_key=tenant.key, base_url=tenant.service.url, max_retries=0) as payi:
        payi.limits.create(
            limit_name="team", limit_id="team", max=0.5, threshold=0.8, limit_type="block"
        )
        payi.limits.create(limit_name="none", limit_id="none", max=0, limit_type="block")
        standin.script(used)
        tenant.post(CHAT, BODY, {"xProxy-Limit-IDs": "none"})  # nothing is left of it now
        standin.script({"status": 500})
        found = [call(tenant, "team")]
        standin.script(used)
        found += [call(tenant, "team,none")] + [call(tenant, "team") for _ in range(5)]
        assert tuple(found) == STATES
        before = payi.limits.retrieve("team").limit
        assert before.totals.requests.to_dict() == {
            "ok": 2,
            "exceeded": 1,
            "overrun": 1,
            "blocked": 1,
            "blocked_external": 1,
            "failed": 1,
            "total": 7,
        }
        cost: Any = before.totals.cost
        assert (cost.input.base, cost.output.base) == (float(4 * EACH), 0)
        assert (cost.total.base, cost.total.overrun_base) == (0.6, 0.1)
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        done = payi.limits.reset("team", reset_date=at)
        history: Any = done.limit_history
        assert done.message == "Limit has been successfully reset."
        assert history.totals == before.totals
        assert (history.limit_id, history.limit_type, history.max) == ("team", "block", 0.5)
        assert history.limit_reset_timestamp == at
        after = payi.limits.retrieve("team").limit
        assert set(after.totals.requests.to_dict().values()) == {0}
        assert after.totals.cost.total.base == 0
        assert after.limit_creation_timestamp == before.limit_creation_timestamp
        tenant.rows(8)  # the history is of what has landed
        kept = tenant.manage("GET", "limits/team/history")["items"]
        assert any(it["totals"]["requests"]["total"] == 7 for it in kept)
        assert call(tenant, "team") == "ok"
