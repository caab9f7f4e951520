"""`xproxy keys`: who may call."""

from __future__ import annotations

import rich_click as click

from metering.cli.session import Session, managed, moment


@click.group("keys")
def command() -> None:
    """API keys. A key is shown once, when it is made; only a digest of it is stored.

    \b
    xproxy keys create --name backend
    xproxy keys create --name reports --role read --expires 90d
    xproxy keys list
    xproxy keys revoke 0198c1f2-...
    """


@command.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--role",
    type=click.Choice(["admin", "app", "read"]),
    default="app",
    show_default=True,
    help="app: calls and its own application's limits; read: reads only; admin: everything.",
)
@click.option("--expires", help="When it ends: 30d, 12h, or an ISO 8601 time. Never by default.")
@click.option("--permission", "permissions", multiple=True, help="E.g. price_as. Repeatable.")
@click.option("--limit", "limit_ids", multiple=True, help="Limit id that binds every call.")
@managed
def create(
    session: Session,
    *,
    name: str,
    role: str,
    expires: str | None,
    permissions: tuple[str, ...],
    limit_ids: tuple[str, ...],
) -> None:
    """Create a key and print it: keep it, it is not shown again.

    \b
    xproxy keys create --name backend --limit team-budget
    xproxy keys create --name shop --application 0198c1f2-...
    """
    body: dict[str, object] = {"name": name, "role": role}
    if expires:
        body["expires_at"] = moment(expires, +1)
    if permissions:
        body["permissions"] = permissions
    if limit_ids:
        body["limit_ids"] = limit_ids
    answer = session.client.post("keys", body=body)
    session.say(answer, f"{answer['key']}\nid {answer['key_id']}; not shown again")


@command.command("list")
@managed
def list_(session: Session) -> None:
    """List the keys, never their secrets."""
    found = list(session.client.items("keys"))
    columns = ("id", "name", "role", "key", "limits", "created", "expires", "blocked")
    rows = (
        (
            one["key_id"],
            one["name"],
            one["role"],
            f"...{one['last4']}",
            one["limit_ids"],
            one["created_at"],
            one.get("expires_at"),
            one["blocked"],
        )
        for one in found
    )
    session.show(found, columns, rows)


@command.command("revoke")
@click.argument("key_id")
@managed
def revoke(session: Session, key_id: str) -> None:
    """Revoke a key: calls with it are refused from now on."""
    answer = session.client.delete("keys", key_id)
    session.say(answer, f"Revoked key {key_id}")
