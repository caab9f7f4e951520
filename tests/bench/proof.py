"""What makes a figure worth printing: the answers were right, and so are the books."""

from __future__ import annotations

import http.client
import json
import threading
import time
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.bench.load import Target, WrongAnswerError
from tests.standin.prices import bill
from tests.standin.service import Service

EVERY_S = 0.1
SETTLED_S = 120.0


def expected_pico(answer: dict[str, Any]) -> int:
    """What one call costs, by a price table that is not the product's."""
    return bill("openai", answer["model"], answer["usage"], answer["service_tier"]).cost_pico


class Sampler:
    """Looks at one answer every tenth of a second while the load runs, on its own connection."""

    def __init__(self, target: Target, answer: dict[str, Any], limit_ids: tuple[str, ...]) -> None:
        self.calls = 0
        self.fault: str | None = None
        self._target = target
        self._answer = answer
        self._limit_ids = limit_ids
        self._cost = Decimal(expected_pico(answer)).scaleb(-12)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self.fault is not None and kind is None:
            raise WrongAnswerError(self.fault)

    def _run(self) -> None:
        while self.fault is None and not self._stop.wait(EVERY_S):
            try:
                self.fault = self.look()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.fault = f"{type(error).__name__}: {error}"

    def look(self) -> str | None:
        """One call; what is wrong with its answer."""
        url = urlsplit(self._target.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        try:
            connection.request("POST", url.path, self._target.body, self._target.headers)
            response = connection.getresponse()
            body = json.loads(response.read(), parse_float=Decimal)
        finally:
            connection.close()
        if response.status != 200:
            return f"status {response.status}: {body}"
        result = body.pop("xproxy_result", {})
        if body != self._answer:
            return f"not the provider's answer: {body}"
        cost = result.get("cost", {}).get("total", {}).get("base")
        if cost != self._cost:
            return f"cost {cost}, not {self._cost}: {result}"
        missing = set(self._limit_ids) - set(result.get("limits", {}))
        if missing:
            return f"no state of {missing}: {result}"
        self.calls += 1
        return None


def check_books(
    service: Service, key: str, *, calls: int, cost_pico: int, limit_ids: tuple[str, ...]
) -> None:
    """The rows in Postgres and the budgets in Redis are exactly those calls, to the pico-dollar.

    Waits for calls that wrk walked away from; raises WrongAnswerError.
    """
    total = Decimal(calls * cost_pico).scaleb(-12)
    expected: dict[str, Any] = {"calls": calls, "cost_pico": calls * cost_pico}
    expected |= {name: {"spent": total, "held": 0} for name in limit_ids}
    deadline = time.monotonic() + SETTLED_S
    while True:
        found = _books(service, key, limit_ids)
        if found == expected:
            return
        if time.monotonic() > deadline:
            raise WrongAnswerError(f"the books say\n  {found}\nand not\n  {expected}")
        time.sleep(0.25)


def _books(service: Service, key: str, limit_ids: tuple[str, ...]) -> dict[str, Any]:
    items = service.manage("GET", "usage", key=key, group_by="model")["items"]
    budgets = service.manage("GET", "budgets", key=key)["items"]
    kept = {b["limit_id"]: {"spent": b["spent"], "held": b["held"]} for b in budgets}
    return {
        "calls": sum(item["calls"] for item in items),
        "cost_pico": sum(int(item["cost_pico"]) for item in items),
    } | {name: kept[name] for name in limit_ids}
