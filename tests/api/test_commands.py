"""The management commands against the control plane on a socket, and how they find it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner, Result

from metering.cli import main
from metering.client import ClientError, find
from metering.core import origins
from metering.core.credentials import Credential
from metering.core.difference import Difference, Pair
from metering.core.keys import local_token, local_token_valid
from metering.core.limits import Refusal
from metering.core.money import PICO_PER_USD
from metering.core.sealing import Master, Secret
from metering.duties.audit import Report
from tests.api.conftest import MASTER, MINE, OTHER, Bench, Known
from tests.api.test_usage import land, row

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
async def url(bench: Bench) -> AsyncIterator[str]:
    """Where the control plane listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(bench.app, lifespan="off", log_level="error"))
    serving = asyncio.create_task(server._serve([listener]))
    yield "http://127.0.0.1:{1}".format(*listener.getsockname())
    server.should_exit = True
    await serving


Run = Callable[..., "asyncio.Future[Result]"]


@pytest.fixture
def xproxy(url: str, tmp_path: Path) -> Run:
    """Runs a command as an admin; a keyword is an environment variable, None removes it."""

    def run(*arguments: str, stdin: str = "", **environment: str | None) -> asyncio.Future[Result]:
        given = {
            "XPROXY_URL": url,
            "XPROXY_API_KEY": "admin-key",
            "XPROXY_DATA_DIR": str(tmp_path),
            "COLUMNS": "200",
            **environment,
        }
        return asyncio.ensure_future(
            asyncio.to_thread(CliRunner().invoke, main, arguments, input=stdin, env=given)
        )

    return run


async def output(running: asyncio.Future[Result]) -> str:
    """What a command printed; it must have succeeded."""
    result = await running
    assert result.exit_code == 0, result.output
    return result.output


async def test_applications_and_keys(xproxy: Run) -> None:
    """An application is made and given a key, which is listed without its secret and revoked."""
    made = json.loads(await output(xproxy("applications", "create", "shop", "--json")))
    application = made["application_id"]
    printed = await output(
        xproxy("keys", "create", "--name", "backend", "--application", application)
    )
    secret, key_id = printed.split()[0], printed.split()[2].rstrip(";")
    listed = await output(xproxy("keys", "list", "--application", application))
    revoked = await output(xproxy("keys", "revoke", key_id))
    after = await output(xproxy("keys", "list", "--application", application))
    await output(xproxy("applications", "delete", application, "--yes"))

    assert secret.startswith("sk-xproxy-app-")
    assert key_id in listed
    assert f"...{secret[-4:]}" in listed
    assert secret not in listed
    assert revoked == f"Revoked key {key_id}\n"
    assert after == "Nothing here yet.\n"
    assert "shop" not in await output(xproxy("applications", "list"))


async def test_life_of_a_key(xproxy: Run) -> None:
    """It is changed, rotated, blocked, let in again and deleted; secrets are shown once each."""
    await output(xproxy("limits", "create", "team", "--max", "1"))
    key_options = ("--user", "alice", "--permission", "price_as", "--permission", "credential:a")
    printed = await output(
        xproxy("keys", "create", "--name", "k", "--expires", "30d", *key_options)
    )
    secret, key_id = printed.split()[0], printed.split()[2].rstrip(";")
    update = ("keys", "update", key_id, "--name", "new", "--team", "search", "--user", "")
    updated = await output(xproxy(*update, "--limit", "team", "--expires", ""))
    rotated = await output(xproxy("keys", "rotate", key_id, "--grace", "1h"))
    blocked = await output(xproxy("keys", "block", key_id))
    shown = json.loads(await output(xproxy("keys", "show", key_id, "--json")))
    unblocked = await output(xproxy("keys", "unblock", key_id))
    cleared = json.loads(await output(xproxy("keys", "update", key_id, "--limit", "", "--json")))
    listed = await output(xproxy("keys", "list"))
    deleted = await output(xproxy("keys", "delete", key_id))

    assert "search" in updated
    assert "alice" not in updated
    assert "not shown again; the one before works until 20" in rotated
    assert rotated.split()[0] != secret
    assert (blocked, unblocked) == (f"Blocked key {key_id}\n", f"Unblocked key {key_id}\n")
    assert shown["blocked"] is True
    assert shown["permissions"] == ["price_as", "credential:a"]
    assert shown["limit_ids"] == ["team"]
    assert "expires_at" not in shown
    assert cleared["limit_ids"] == []
    assert cleared["permissions"] == ["price_as", "credential:a"]
    assert secret not in listed
    assert deleted == f"Revoked key {key_id}\n"


MENDED = Difference(
    kind="counter",
    application_id=OTHER,
    about="team",
    unit="usd",
    numbers={"settled": Pair(3 * PICO_PER_USD + 1, 3 * PICO_PER_USD), "ok": Pair(4, 5)},
    cause="the live counters are not what rows charged",
    repair="added to the counters what they lacked",
)
REMAINS = Difference(
    kind="dead_letter", application_id=OTHER, about="r-1", cause="no table takes this row: why"
)


@pytest.mark.parametrize("command", [("audit",), ("audit", "check")])
async def test_the_books_are_audited(bench: Bench, xproxy: Run, command: tuple[str, ...]) -> None:
    """Without a command too: what differs is told with its numbers and cause, and fails."""
    told = await output(xproxy(*command))
    assert told.startswith("0 differences, 0 repaired; looked at 0 applications")
    bench.auditor.report = Report(differences=[MENDED, REMAINS])
    found = await xproxy(*command)
    repaired = await xproxy(*command, "--repair", "--application", OTHER)
    machine = await xproxy(*command, "--json")
    assert [it.exit_code for it in (found, repaired, machine)] == [1, 1, 1]
    assert "counter team: the live counters are not what rows charged" in found.output
    assert "settled  3.000000000001  3" in found.output
    assert "makes it good" in found.output
    assert "2 differences, 0 repaired" in found.output
    assert "Repaired: added to the counters what they lacked." in repaired.output
    assert "1 differences, 1 repaired" in repaired.output
    assert [it["about"] for it in json.loads(machine.output)["differences"]] == ["team", "r-1"]
    assert bench.auditor.asked == [
        ("check", None),
        ("check", None),
        ("repair", OTHER),
        ("check", None),
    ]
    bench.auditor.report = Report(differences=[MENDED])
    assert "0 differences, 1 repaired" in await output(xproxy(*command, "--repair"))


async def test_why_a_limit_refused(bench: Bench, xproxy: Run) -> None:
    """In sentences and a table, of the latest or of one call; as JSON for machines."""
    await output(xproxy("limits", "create", "team", "--max", "1", "--type", "block"))
    assert (await output(xproxy("limits", "why", "team"))).startswith(
        "Limit team has refused no call.\nNow $0 of $1 are settled"
    )
    why = Refusal(
        limit_id="team",
        epoch=1,
        unit="usd",
        mode="block",
        max=PICO_PER_USD,
        settled=PICO_PER_USD + 1,
        held=0,
        needed=0,
        holds=0,
    )
    calls = [row(n, status="blocked", refusals=[why]) for n in (2, 1)]  # so many minutes ago
    await land(bench, calls)
    printed = await output(xproxy("limits", "why", "team"))
    one = await output(xproxy("limits", "why", "team", "--request", calls[0].request_id, "--json"))
    assert f"refused call {calls[1].request_id}" in printed
    assert "$1.000000000001 were settled" in printed
    assert "$0.000000000001 more than the max of $1." in printed
    assert "raise the max or reset it." in printed
    assert printed.count(calls[0].request_id) == 1
    assert [it["request_id"] for it in json.loads(one)["items"]] == [calls[0].request_id]
    missing = await xproxy("limits", "why", "nothing")
    assert missing.exit_code == 1
    assert "not found" in missing.output


async def test_limits_are_attached(xproxy: Run) -> None:
    """To whom one says, keys too; and detached again."""
    await output(xproxy("limits", "create", "team", "--max", "1"))
    made = json.loads(await output(xproxy("keys", "create", "--name", "k", "--json")))
    whom = ("--user", "alice", "--user", "bob", "--team", "t", "--key", made["key_id"])
    attached = await output(xproxy("limits", "attach", "team", *whom))
    listed = await output(xproxy("limits", "attachments"))
    users = json.loads(await output(xproxy("limits", "attachments", "--kind", "user", "--json")))
    key = json.loads(await output(xproxy("keys", "show", made["key_id"], "--json")))
    detached = await output(xproxy("limits", "detach", "team", *whom))
    after = json.loads(await output(xproxy("keys", "show", made["key_id"], "--json")))
    nobody = await xproxy("limits", "attach", "team")
    unknown = await xproxy("limits", "attach", "nope", "--user", "alice")

    assert attached.startswith("Limit team binds user alice, user bob, team t, key ")
    assert "alice" in listed
    assert [it["name"] for it in users] == ["alice", "bob"]
    assert key["limit_ids"] == ["team"]
    assert detached.startswith("Limit team no longer binds user alice")
    assert after["limit_ids"] == []
    assert await output(xproxy("limits", "attachments")) == "Nothing here yet.\n"
    assert nobody.exit_code == 2
    assert "--user, --team" in nobody.output
    assert "Limit Id 'nope' not found" in unknown.output


async def test_life_of_a_limit(bench: Bench, xproxy: Run) -> None:
    """A limit is made, shown with what is spent to the last digit, changed, reset and deleted."""
    create = ("limits", "create", "team", "--max", "0.000000000001", "--type", "block")
    await output(xproxy(*create, "--threshold", "0.8", "--property", "a=b"))
    bench.spend("team", settled=1)

    shown = await output(xproxy("limits", "show", "team"))
    listed = json.loads(await output(xproxy("limits", "list", "--name", "team", "--json")))
    updated = await output(xproxy("limits", "update", "team", "--max", "$1,000.5"))
    budgets = await output(xproxy("budgets"))
    reset = await output(xproxy("limits", "reset", "team"))
    deleted = await output(xproxy("limits", "delete", "team"))

    assert "$0.000000000001" in shown
    assert listed[0]["properties"] == {"a": "b"}
    assert "$1000.5" in updated
    assert "$1000.499999999999" in budgets
    assert reset == "Reset team; it had counted 0.000000000001\n"
    assert deleted == "Deleted limit team\n"


async def test_windows_of_limits(bench: Bench, xproxy: Run) -> None:
    """A window is given in options, shown in words with when it ends, and has a history."""
    week = ("--every", "week", "--zone", "Asia/Tokyo", "--first-day", "sunday")
    made = await output(xproxy("limits", "create", "weekly", "--max", "5", *week))
    ten = ("--every", "10 days", "--anchor", "2026-01-31")
    await output(xproxy("limits", "create", "sprint", "--max", "5", *ten))
    await output(xproxy("limits", "create", "lately", "--max", "5", "--rolling", "24 hours"))
    await output(xproxy("limits", "create", "plain", "--max", "5"))
    wrong = await xproxy("limits", "create", "w", "--max", "5", "--every", "day", "--zone", "Mars")
    alone = await xproxy("limits", "create", "w", "--max", "5", "--zone", "UTC")
    listed = await output(xproxy("limits", "list"))
    budgets = await output(xproxy("budgets"))
    history = await output(xproxy("limits", "history", "weekly"))

    bounds = r"2026-09-26T15:00:00Z"
    assert re.search(rf"weekly .*every week, sunday, Asia/Tokyo +{bounds}", made)
    assert re.search(rf"weekly .*every week, sunday, Asia/Tokyo +{bounds}", listed)
    assert re.search(r"sprint .*every 10 days, 2026-01-31, UTC +2026-09-28T00:00:00Z", listed)
    assert re.search(r"lately .*rolling 24 hours +-", listed)
    assert re.search(r"plain .* - +-", listed)
    assert re.search(rf"weekly .*{bounds}", budgets)
    assert history == "Nothing here yet.\n"
    assert (wrong.exit_code, "window.zone 'Mars' is no time zone" in wrong.output) == (1, True)
    assert (alone.exit_code, "window must have either" in alone.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "new", "--max", "-1"), "max must be between 0 and 10^12 US dollars"),
        (("create", "new", "--max", "1e13"), "max must be between 0 and 10^12 US dollars"),
        (("create", "new", "--max", "1e-13"), "max has more than 12 decimal places"),
        (("create", "new", "--max", "1.5", "--unit", "tokens"), "max of a limit on tokens must be"),
        (("create", "new", "--max", "1", "--threshold", "0.5"), "threshold must be between 0.75"),
        (("create", "new", "--max", "1", "--threshold", "1"), "threshold must be between 0.75"),
        (("create", "new", "--max", "1", "--hard-cap"), 'hard_cap goes with limit_type "block"'),
        (("create", "new", "--max", "1", "--every", "day", "--zone", "Mars"), "window.zone 'Mars'"),
        (("create", "new", "--max", "1", "--every", "eon"), "window.every must be hour, day"),
        (("create", "new", "--max", "1", "--every", "9 days"), "window.anchor must be a day"),
        (("create", "new", "--max", "1", "--rolling", "now"), "window.rolling must be such as"),
        (("create", "live", "--max", "9", "--every", "day"), "exists with another window"),
        (("create", "live", "--max", "8"), "exists with another max"),
        (("create", "live", "--max", "9", "--threshold", "0.8"), "exists with another threshold"),
        (("update", "live", "--max", "-1"), "max must be between 0 and 10^12 US dollars"),
        (
            ("update", "live", "--max", "3.99"),
            "less than the current spent of '4'",
        ),
        (("update", "gone", "--max", "1"), "Limit Id 'gone' not found"),
        (("reset", "gone"), "Limit Id 'gone' not found"),
        (("delete", "gone"), "Limit Id 'gone' not found"),
        (("attach", "gone", "--team", "t"), "gone"),
    ],
)
async def test_what_is_no_limit_is_refused(
    bench: Bench, xproxy: Run, arguments: tuple[str, ...], words: str
) -> None:
    """On the command line too by the member's name, with the rule; the limits stay as they were."""
    await bench.limit(limit_id="live", limit_name="live", max=9)
    bench.spend("live", settled=4 * PICO_PER_USD)
    before = await output(xproxy("limits", "list", "--json"))
    refused = await xproxy("limits", *arguments)
    assert refused.exit_code == 1, refused.output
    assert refused.output.startswith("Error: ")
    assert words in refused.output
    assert await output(xproxy("limits", "list", "--json")) == before


async def test_the_audit_log(xproxy: Run) -> None:
    """Who changed what, newest first, in words; as many as asked for."""
    await output(xproxy("limits", "create", "team", "--max", "1"))
    await output(xproxy("limits", "update", "team", "--max", "2.5"))
    shown = await output(xproxy("audit", "log", "--object", "limit"))
    latest = json.loads(await output(xproxy("audit", "log", "--last", "1", "--json")))
    assert re.search(r"operator +updated +limit +team +max: 1 -> 2\.5 *\n", shown)
    assert "limit_name=team" in shown
    assert [it["after"] for it in latest] == [{"max": 2.5}]
    assert await output(xproxy("audit", "log", "--until", "1h")) == "Nothing here yet.\n"


async def test_life_of_a_credential(bench: Bench, xproxy: Run, tmp_path: Path) -> None:
    """Stored from standard input or a file, listed, moved, rotated, tried, deleted; never shown."""
    key, file = "sk-proj-0123456789-Ab12", tmp_path / "key.txt"
    file.write_text("sk-proj-0123456789-Cd34\n")
    create = ("credentials", "create", "main", "--provider", "openai", "--default")
    made = await output(xproxy(*create, stdin=key + "\n"))
    listed = await output(xproxy("credentials", "list"))
    shown = await output(xproxy("credentials", "show", "main"))
    as_json = json.loads(await output(xproxy("credentials", "list", "--json")))
    move = ("credentials", "update", "main", "--origin", "https://gateway.example.com")
    moved = await output(xproxy(*move))
    needs = await output(xproxy("credentials", "list"))
    rotated = await output(xproxy("credentials", "rotate", "main", "--secret-file", str(file)))
    both = ("credentials", "update", "main", "--no-origin", "--no-default", "--with-secret")
    back = await output(xproxy(*both, stdin=key))
    blocked = await output(xproxy("credentials", "update", "main", "--block"))
    nothing = await xproxy("credentials", "update", "main")
    secret, elsewhere = Secret(key), origins.parse("http://localhost")
    held = Credential(slug="main", provider="openai", secret=secret, origin=elsewhere)
    bench.directory.credentials[MINE, "main"] = held
    tried = await xproxy("credentials", "test", "main")
    deleted = await output(xproxy("credentials", "delete", "main"))

    assert made == "Stored credential main, ...Ab12\n"
    assert re.search(r"main +openai +- +yes +\.\.\.Ab12 +ready", listed)
    assert re.search(r"last4 +Ab12", shown)
    assert as_json[0]["slug"] == "main"
    assert "no secret now, set one: xproxy credentials rotate main" in moved
    assert re.search(r"https://gateway\.example\.com +yes +- +needs_secret", needs)
    assert rotated == "Rotated credential main, ...Cd34\n"
    assert back == blocked == "Changed credential main, ...Ab12\n"
    assert (nothing.exit_code, "--help" in nothing.output) == (1, True)
    assert (tried.exit_code, "main: unreachable (origin must begin" in tried.output) == (1, True)
    assert deleted == "Deleted credential main\n"
    for text in (made, listed, shown, moved, needs, rotated, back, tried.output):
        assert "sk-proj" not in text


async def test_the_master_secret(xproxy: Run) -> None:
    """Its id, what it wraps, and how the next one comes; never the secret."""
    shown = await output(xproxy("secret", "show"))
    refused = await xproxy("secret", "rotate")
    assert re.search(rf"{Master(MASTER).id} +yes +2", shown)
    assert refused.exit_code == 1
    assert "XPROXY_MASTER_SECRET_PREVIOUS" in refused.output
    assert MASTER not in shown + refused.output


async def test_usage(bench: Bench, xproxy: Run) -> None:
    """Usage is shown by call, summed, and as one CSV however many pages it took."""
    await land(bench, [row(n) for n in range(1, 4)])
    since = ("--since", "2001-01-01")

    calls = await output(xproxy("usage", *since))
    summed = await output(xproxy("usage", *since, "--by", "model"))
    text = await output(xproxy("usage", *since, "--csv"))

    assert calls.count("gpt-4o") == 3
    assert "0.000862500003" in summed
    assert len(list(csv.DictReader(io.StringIO(text)))) == 3


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("limits", "show", "nope"), {}, "Limit Id 'nope' not found (404 limit_not_found)"),
        (("limits", "list"), {"XPROXY_API_KEY": "wrong"}, "invalid_api_key"),
        (("keys", "list"), {"XPROXY_API_KEY": "read-key"}, "needs a key of role admin"),
        (("limits", "list"), {"XPROXY_URL": "http://127.0.0.1:1"}, "xproxy serve"),
        (("limits", "list"), {"XPROXY_URL": None}, "No running service found"),
        (("limits", "list"), {"XPROXY_API_KEY": None}, "set XPROXY_API_KEY"),
        (("limits", "list"), {"XPROXY_ADMIN_KEY": "short"}, "XPROXY_ADMIN_KEY"),
        (("limits", "list", "--application", "nope"), {}, "application_not_found"),
    ],
)
async def test_failures_are_one_line(
    xproxy: Run, arguments: tuple[str, ...], environment: dict[str, str | None], words: str
) -> None:
    """What goes wrong is one clear line and exit code 1."""
    result = await xproxy(*arguments, **environment)

    assert result.exit_code == 1
    assert words in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("limits", "create", "l", "--max", "ten"), "'ten' is no number"),
        (("limits", "create", "l", "--max", "NaN"), "'NaN' is no number"),
        (("limits", "create", "l", "--max", "sNaN"), "'sNaN' is no number"),
        (("limits", "create", "l", "--max", "-Infinity"), "'-Infinity' is no number"),
        (("limits", "create", "l", "--max", "1", "--threshold", "NaN"), "'NaN' is no number"),
        (("limits", "update", "l", "--max", "Infinity"), "'Infinity' is no number"),
        (("limits", "create", "l"), "--max"),
        (("limits", "create", "l", "--max", "1", "--property", "a"), "name=value"),
    ],
)
async def test_bad_arguments(xproxy: Run, arguments: tuple[str, ...], words: str) -> None:
    """Arguments that cannot be meant are refused before anything is asked."""
    result = await xproxy(*arguments)

    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    "command", ["applications", "keys", "limits", "budgets", "usage", "credentials", "secret"]
)
async def test_help_teaches(xproxy: Run, command: str) -> None:
    """Each command's help has an example of itself."""
    assert f"xproxy {command}" in (await output(xproxy(command, "--help"))).split("\n", 4)[4]


async def test_finding_the_local_service(
    bench: Bench, xproxy: Run, url: str, tmp_path: Path
) -> None:
    """With a run file and the master secret beside it, no address and no key are needed."""
    (tmp_path / "run.json").write_text(json.dumps({"pid": 1, "url": url}))
    (tmp_path / "master.secret").write_text(SECRET + "\n")
    bench.directory.anyone = Known(OTHER, None, "admin")
    nothing = {"XPROXY_URL": None, "XPROXY_API_KEY": None}

    await output(xproxy("limits", "list", **nothing))

    [token] = bench.directory.asked
    assert local_token_valid(SECRET.encode(), token, int(token.split(".")[1]))


def test_a_local_token_goes_home_only(tmp_path: Path) -> None:
    """Another address than the run file's gets no token of ours."""
    (tmp_path / "run.json").write_text('{"url": "http://127.0.0.1:8787"}')
    (tmp_path / "master.secret").write_text(SECRET)

    with pytest.raises(ClientError, match="XPROXY_API_KEY"):
        find("http://elsewhere", None, tmp_path, lambda secret: secret.decode())


@pytest.mark.parametrize(
    ("token", "now_s", "valid"),
    [
        (local_token(b"s", 1000), 1000, True),
        (local_token(b"s", 1000), 1060, True),
        (local_token(b"s", 1000), 940, True),
        (local_token(b"s", 1000), 1061, False),
        (local_token(b"s", 1000), 939, False),
        (local_token(b"other", 1000), 1000, False),
        (local_token(b"s", 1000).replace("1000", "1001"), 1000, False),
        (local_token(b"s", 1000).upper(), 1000, False),
        ("local.1000.", 1000, False),
        ("sk-xproxy-admin-x", 1000, False),
        ("", 0, False),
    ],
)
def test_local_tokens(token: str, now_s: int, *, valid: bool) -> None:
    """A local token is good for a minute either way, under its own secret alone."""
    assert local_token_valid(b"s", token, now_s) is valid


async def test_more_than_a_page(bench: Bench, xproxy: Run) -> None:
    """Listings are walked to their end."""
    for number in range(101):
        await bench.limit(limit_id=f"l{number}", limit_name=f"l{number}")
    bench.spend("l7", settled=2 * PICO_PER_USD)

    listed = json.loads(await output(xproxy("limits", "list", "--json")))

    assert len(listed) == 101
