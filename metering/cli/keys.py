"""`xproxy keys`: who may call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import rich_click as click

from metering.cli.session import Session, managed, moment

PERMISSIONS = """own_credential, credential:SLUG, credential:*, price_as, ingest, unmetered,
unbounded, base_uri, manage_credentials. Repeatable."""


RATES = {"rpm": "requests_per_minute", "tpm": "tokens_per_minute", "parallel": "parallel"}
"""What the API calls the options of rate limits."""


@click.group("keys")
def command() -> None:
    """API keys. A key is shown once, when it is made or rotated; only a digest of it is stored.

    \b
    xproxy keys create --name backend
    xproxy keys create --name reports --role read --expires 90d
    xproxy keys list
    xproxy keys update 0198c1f2-... --team search --limit team-budget
    xproxy keys rotate 0198c1f2-... --grace 24h
    xproxy keys block 0198c1f2-...
    xproxy keys delete 0198c1f2-...

    Changes hold for every call from now on, on every worker.
    """


def _described(function: Callable[..., None]) -> Callable[..., None]:
    """The options that a new key and a change have in common."""
    for option in (
        click.option("--parallel", help="Calls at once, at most."),
        click.option("--tpm", help="Tokens per minute, at most."),
        click.option("--rpm", help="Requests per minute, at most."),
        click.option("--customer", help="Customer the key acts for."),
        click.option("--team", help="Team the key acts for."),
        click.option("--user", "user_id", help="User the key acts for: their limits bind it."),
        click.option("--limit", "limit_ids", multiple=True, help="Limit id that binds every call."),
        click.option("--permission", "permissions", multiple=True, help=PERMISSIONS),
        click.option("--expires", help="When it ends: 30d, 12h, or an ISO 8601 time."),
    ):
        function = option(function)
    return function


@command.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--role",
    type=click.Choice(["admin", "app", "read"]),
    default="app",
    show_default=True,
    help="app: calls and its own application's limits; read: reads only; admin: everything.",
)
@_described
@managed
def create(session: Session, /, *, name: str, role: str, **given: Any) -> None:
    """Create a key and print it: keep it, it is not shown again.

    \b
    xproxy keys create --name backend --limit team-budget
    xproxy keys create --name batch --rpm 60 --tpm 100000 --parallel 4
    xproxy keys create --name ci --user alice --permission credential:shared-openai
    xproxy keys create --name shop --application 0198c1f2-...

    Without a permission for credentials it may use those of its application, and its own.
    """
    body = {"name": name, "role": role} | _body(given)
    _tell(session, session.client.post("keys", body=body))


@command.command("list")
@managed
def list_(session: Session) -> None:
    """List the keys, never their secrets; when and from where each was last used."""
    found = list(session.client.items("keys"))
    _show(session, found, found)


@command.command("show")
@click.argument("key_id")
@managed
def show(session: Session, key_id: str) -> None:
    """Show one key, without its secret."""
    _show_one(session, session.client.get("keys", key_id))


@command.command("update")
@click.argument("key_id")
@click.option("--name", help="What the key is for.")
@_described
@managed
def update(session: Session, /, key_id: str, *, name: str | None, **given: Any) -> None:
    """Change a key: what is given takes the place of what it has, an empty value takes it away.

    \b
    xproxy keys update 0198c1f2-... --limit team-budget --limit calls
    xproxy keys update 0198c1f2-... --expires ''
    xproxy keys update 0198c1f2-... --permission ''
    xproxy keys update 0198c1f2-... --rpm 600 --tpm ''
    """
    body = _body(given) | ({"name": name} if name else {})
    _show_one(session, session.client.patch("keys", key_id, body=body))


@command.command("rotate")
@click.argument("key_id")
@click.option(
    "--grace",
    default="24h",
    show_default=True,
    help="How long the secret it has goes on working: 0, 30m, 24h, 7d; at most 30d.",
)
@managed
def rotate(session: Session, key_id: str, grace: str) -> None:
    """Give a key another secret and print it: keep it, it is not shown again.

    Its id, limits and usage stay. The secret before goes on working for the grace period, so that
    callers can change over; one from an earlier rotation ends now.
    """
    body = {"grace_period": grace}
    _tell(session, session.client.post("keys", key_id, "rotate", body=body))


@command.command("block")
@click.argument("key_id")
@managed
def block(session: Session, key_id: str) -> None:
    """Refuse calls with a key until it is unblocked."""
    answer = session.client.patch("keys", key_id, body={"blocked": True})
    session.say(answer, f"Blocked key {key_id}")


@command.command("unblock")
@click.argument("key_id")
@managed
def unblock(session: Session, key_id: str) -> None:
    """Let a blocked key call again."""
    answer = session.client.patch("keys", key_id, body={"blocked": False})
    session.say(answer, f"Unblocked key {key_id}")


@command.command("delete")
@click.argument("key_id")
@managed
def delete(session: Session, key_id: str) -> None:
    """Revoke a key for good: calls with it are refused from now on. Its usage stays."""
    answer = session.client.delete("keys", key_id)
    session.say(answer, f"Revoked key {key_id}")


command.add_command(delete, "revoke")


def _body(given: Mapping[str, Any]) -> dict[str, object]:
    """What was given, as the API takes it."""
    body: dict[str, object] = {}
    rates = {its: _count(given[name]) for name, its in RATES.items() if given[name] is not None}
    if rates:
        body["rate_limits"] = rates
    for name, value in given.items():
        if name in RATES:
            continue
        if name == "expires" and value is not None:
            body["expires_at"] = moment(value, +1) if value else None
        elif isinstance(value, tuple) and value:
            body[name] = [item for item in value if item]
        elif isinstance(value, str) and name != "expires":
            body[name] = value or None
    return body


def _count(text: str) -> int | None:
    """A number; None for nothing, which takes a rate limit away."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise click.UsageError(f"{text!r} is no whole number")
    return int(text)


def _tell(session: Session, answer: Mapping[str, Any]) -> None:
    """Print the secret of a key, for the only time."""
    before = answer.get("previous_ends_at")
    until = f"; the one before works until {before}" if before else ""
    session.say(answer, f"{answer['key']}\nid {answer['key_id']}; not shown again{until}")


def _show_one(session: Session, answer: Mapping[str, Any]) -> None:
    _show(session, answer, [answer])


def _show(session: Session, answer: object, keys: Iterable[Mapping[str, Any]]) -> None:
    columns = (
        "id",
        "name",
        "role",
        "key",
        "for",
        "limits",
        "rates",
        "permissions",
        "expires",
        "last used",
    )
    session.show(answer, (*columns, "blocked"), (_row(one) for one in keys))


def _row(key: Mapping[str, Any]) -> tuple[object, ...]:
    whom = [key[name] for name in ("user_id", "team", "customer") if key.get(name)]
    rates = key.get("rate_limits", {})
    used = " from ".join(str(key[it]) for it in ("last_used_at", "last_used_from") if key.get(it))
    return (
        key["key_id"],
        key["name"],
        key["role"],
        f"{key['prefix']}-...{key['last4']}" if key["last4"] else "",
        whom,
        key["limit_ids"],
        [f"{rates[its]} {name}" for name, its in RATES.items() if its in rates],
        key["permissions"],
        key.get("expires_at"),
        used,
        key["blocked"],
    )
