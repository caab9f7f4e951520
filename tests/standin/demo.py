"""`make demo`: the whole thing without a provider account, in a minute.

Starts the provider stand-in and the real service in front of it, makes a few calls, shows what came
back, and ends everything it started. `--keep` leaves it running until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tests.standin.ledger import total_pico
from tests.standin.process import Standin
from tests.standin.service import Service

OPENAI = "/api/v1/proxy/openai/v1/chat/completions"
ANTHROPIC = "/api/v1/proxy/anthropic/v1/messages"
TEAM, TINY = "demo-team", "demo-tiny"
LANDED_S = 15.0


@dataclass(frozen=True)
class Call:
    """One call of the demo."""

    title: str
    path: str
    model: str
    prompt: str
    stream: bool = False
    limits: tuple[str, ...] = (TEAM,)
    extra: dict[str, Any] = field(default_factory=dict)


CALLS = (
    Call("OpenAI, JSON", OPENAI, "gpt-4o", "Write a line about a robot."),
    Call("OpenAI, streamed", OPENAI, "gpt-4o", "And now word by word.", stream=True),
    Call(
        "Anthropic, JSON",
        ANTHROPIC,
        "claude-sonnet-4-5",
        "Write a line about the sea.",
        extra={"max_tokens": 200},
    ),
    Call(
        "Anthropic, streamed",
        ANTHROPIC,
        "claude-haiku-4-5",
        "And a last one.",
        stream=True,
        extra={"max_tokens": 200},
    ),
    Call(
        "OpenAI, with a second budget of $0.000001: the call that crosses it still goes through",
        OPENAI,
        "gpt-4o-mini",
        "Small talk.",
        limits=(TEAM, TINY),
    ),
    Call(
        "The same again: refused, and the provider was not called",
        OPENAI,
        "gpt-4o-mini",
        "More small talk.",
        limits=(TEAM, TINY),
    ),
)


def main() -> int:
    """Run the demo; the exit status is 0 when the books agree."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends everything, as Ctrl-C does
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="xproxy-demo-") as name:
        place = Path(name)
        with (
            console.status("Starting a provider stand-in ..."),
            Standin(place / "ledger.jsonl") as standin,
        ):
            console.print(f"[green]✓[/] provider stand-in at {standin.url}")
            dummies = {"OPENAI_API_KEY": "sk-demo", "ANTHROPIC_API_KEY": "sk-ant-demo"}
            service = Service(place / "data", standin.url, **dummies)
            console.print("  starting PostgreSQL, Valkey and the service ...")
            with service:
                console.print(f"[green]✓[/] xproxy at {service.url}\n")
                agreed = show(console, service, standin)
                if options.keep:
                    keep(console, service)
    onwards(console)
    return 0 if agreed else 1


def show(console: Console, service: Service, standin: Standin) -> bool:
    """Make the calls and print all there is to see; whether both sides' books agree."""
    key = service.application_key("demo")
    for limit_id, maximum in ((TEAM, 1), (TINY, 0.000001)):
        body = {"limit_id": limit_id, "limit_name": limit_id, "max": maximum}
        service.manage("POST", "limits", body | {"limit_type": "block"}, key=key)
    for call in CALLS:
        console.print(panel(call, *make(service, call, key)))
    admitted = len(standin.ledger())
    usage = landed(service, key, len(CALLS))
    console.print(budgets(service.manage("GET", "budgets", key=key)))
    console.print(by_model(usage))
    billed = Decimal(total_pico(standin.ledger())).scaleb(-12)
    recorded = Decimal(sum(int(item["cost_pico"]) for item in usage)).scaleb(-12)
    agreed = billed == recorded and admitted == len(CALLS) - 1
    console.print(
        f"[{'green' if agreed else 'red'}]The provider billed {dollars(billed)} for {admitted} "
        f"calls; the service recorded {dollars(recorded)}.[/]\n"
    )
    return agreed


def make(service: Service, call: Call, key: str) -> tuple[httpx.Response, str, dict[str, Any]]:
    """(response, text of the answer, the whole JSON or the event that carries the result)."""
    headers = {
        "xProxy-Api-Key": key,
        "xProxy-Limit-IDs": ",".join(call.limits),
        "xProxy-User-ID": "you",
    }
    messages = [{"role": "user", "content": call.prompt}]
    body = {"model": call.model, "messages": messages, "stream": call.stream} | call.extra
    response = service.http.post(call.path, json=body, headers=headers)
    if response.headers["content-type"].startswith("text/event-stream"):
        events = list(data_events(response.text))
        carrier = next((event for event in events if "xproxy_result" in event), {})
        return response, "".join(map(text_of, events)), carrier
    answer: dict[str, Any] = json.loads(response.text, parse_float=Decimal)
    return response, text_of(answer), answer


def data_events(stream: str) -> Iterator[dict[str, Any]]:
    """The JSON of every event of a stream."""
    for line in stream.splitlines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "), parse_float=Decimal)


def text_of(answer: dict[str, Any]) -> str:
    """The text in an answer or an event of either provider."""
    texts = [
        (choice.get("message") or choice.get("delta") or {}).get("content")
        for choice in answer.get("choices") or []
    ]
    texts += [part.get("text") for part in answer.get("content") or []]
    if answer.get("type") == "content_block_delta":
        texts.append(answer["delta"].get("text"))
    return "".join(text for text in texts if text)


def panel(call: Call, response: httpx.Response, text: str, carrier: dict[str, Any]) -> Panel:
    """What one call brought back."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("asked", f"POST {call.path}   {call.model}")
    table.add_row("status", f"[{'red' if response.is_error else 'green'}]{response.status_code}[/]")
    if response.is_error:
        shown = {k: v for k, v in carrier.items() if k != "xproxy_result"}
        table.add_row("error", as_json(shown))
    else:
        table.add_row("answer", text if len(text) < 150 else text[:150] + " ...")
    table.add_row("xproxy_result", as_json(carrier.get("xproxy_result")))
    return Panel(table, title=call.title, title_align="left", border_style="blue")


def as_json(value: object) -> Text:
    """JSON for people: numbers digit for digit, and room to break lines."""
    text = msgspec.json.Encoder(decimal_format="number").encode(value).decode()
    return JSONHighlighter()(text.replace('":', '": ').replace(",", ", "))


def landed(service: Service, key: str, calls: int) -> list[dict[str, Any]]:
    """Usage by model, once the rows of so many calls are in Postgres (a moment after the calls)."""
    deadline = time.monotonic() + LANDED_S
    while True:
        items: list[dict[str, Any]] = service.manage("GET", "usage", key=key, group_by="model")[
            "items"
        ]
        if sum(item["calls"] for item in items) >= calls or time.monotonic() > deadline:
            return items
        time.sleep(0.1)


def budgets(answer: dict[str, Any]) -> Table:
    """`GET /api/v1/budgets` as a table."""
    table = Table(title="GET /api/v1/budgets", title_justify="left")
    for name in ("budget", "mode", "max", "spent", "held", "remaining", "percent", "state"):
        table.add_column(name, justify="left" if name in ("budget", "mode", "state") else "right")
    for item in answer["items"]:
        amounts = (dollars(item[name]) for name in ("max", "spent", "held", "remaining"))
        name, percent = item["limit_name"], f"{item['percent']} %"
        table.add_row(name, item["mode"], *amounts, percent, item["state"])
    return table


def by_model(items: list[dict[str, Any]]) -> Table:
    """`GET /api/v1/usage?group_by=model` as a table."""
    table = Table(title="GET /api/v1/usage?group_by=model", title_justify="left")
    table.add_column("model")
    for name in ("calls", "input tokens", "output tokens", "cost"):
        table.add_column(name, justify="right")
    for item in items:
        counts = (str(item[name]) for name in ("calls", "input_tokens", "output_tokens"))
        table.add_row(item["model"] or "-", *counts, dollars(item["cost_usd"]))
    return table


def dollars(amount: Decimal | int) -> str:
    """An amount for people, exact."""
    text = f"{Decimal(amount):f}"
    return "$" + (text.rstrip("0").rstrip(".") if "." in text else text)


def keep(console: Console, service: Service) -> None:
    """Leave everything running until Ctrl-C."""
    console.print(f"Running at {service.url}, admin key {service.admin_key}. Ctrl-C ends it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print()


def onwards(console: Console) -> None:
    """What to do next, with a real account."""
    console.print(
        Panel(
            "Everything has been stopped. With a real account:\n\n"
            "  [bold]OPENAI_API_KEY=sk-... ANTHROPIC_API_KEY=sk-ant-... make run[/]\n\n"
            "It prints its address, an admin key, and an application's key with a demo limit. Then "
            "point the SDKs at it, and nothing else changes:\n\n"
            "  OpenAI(base_url=[green]'http://127.0.0.1:8787/api/v1/proxy/openai/v1'[/],\n"
            "         default_headers={'xProxy-Api-Key': ...})\n"
            "  Anthropic(base_url=[green]'http://127.0.0.1:8787/api/v1/proxy/anthropic'[/],\n"
            "            default_headers={'xProxy-Api-Key': ...})",
            title="Next",
            title_align="left",
            border_style="green",
        )
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
