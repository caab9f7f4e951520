"""`xproxy limits attach`, `detach` and `attachments`: what limits bind, whatever headers say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rich_click as click

from metering.cli.session import Session, managed

KINDS = ("user", "team", "customer", "credential")


def _whom(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say whom a limit binds."""
    for option in (
        click.option("--key", "key", multiple=True, help="Id of a key."),
        click.option("--credential", multiple=True, help="Slug of a stored credential."),
        click.option("--customer", multiple=True, help="As in xProxy-Account-Name, or a key's."),
        click.option("--team", multiple=True, help="A key's team."),
        click.option("--user", multiple=True, help="As in xProxy-User-ID, or a key's."),
    ):
        function = option(function)
    return function


@click.command("attach")
@click.argument("limit_id")
@_whom
@managed
def attach(session: Session, /, limit_id: str, **whom: tuple[str, ...]) -> None:
    """Have LIMIT_ID bind every call of somebody, whatever headers say. Options are repeatable.

    \b
    xproxy limits attach alice-budget --user alice
    xproxy limits attach team-budget --team search --team ads
    xproxy limits attach prod-cap --credential shared-openai --key 0198c1f2-...
    """
    answers = []
    for kind, name in _named(whom):
        if kind == "key":
            answers.append(_bind_key(session, name, limit_id, bound=True))
        else:
            answers.append(session.client.put("attachments", kind, name, limit_id, body={}))
    session.say(answers, f"Limit {limit_id} binds {_words(whom)}")


@click.command("detach")
@click.argument("limit_id")
@_whom
@managed
def detach(session: Session, /, limit_id: str, **whom: tuple[str, ...]) -> None:
    """Have LIMIT_ID no longer bind them. Options are repeatable.

    \b
    xproxy limits detach alice-budget --user alice
    """
    answers = []
    for kind, name in _named(whom):
        if kind == "key":
            answers.append(_bind_key(session, name, limit_id, bound=False))
        else:
            answers.append(session.client.delete("attachments", kind, name, limit_id))
    session.say(answers, f"Limit {limit_id} no longer binds {_words(whom)}")


@click.command("attachments")
@click.option("--kind", type=click.Choice(KINDS), help="Only these.")
@click.option("--name", help="Only of this name.")
@click.option("--limit", "limit_id", help="Only of this limit.")
@managed
def attachments(session: Session, kind: str | None, name: str | None, limit_id: str | None) -> None:
    """List what limits are attached to; those of keys are in: xproxy keys list."""
    found = list(session.client.items("attachments", kind=kind, name=name, limit_id=limit_id))
    columns = ("kind", "name", "limit", "since")
    rows = ((it["kind"], it["name"], it["limit_id"], it["attached_at"]) for it in found)
    session.show(found, columns, rows)


def _named(whom: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    named = [(kind, name) for kind, names in whom.items() for name in names]
    if not named:
        raise click.UsageError("say whom: --user, --team, --customer, --credential or --key")
    return named


def _words(whom: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{kind} {name}" for kind, name in _named(whom))


def _bind_key(session: Session, key_id: str, limit_id: str, *, bound: bool) -> dict[str, Any]:
    bound_by = session.client.get("keys", key_id)["limit_ids"]
    others = [it for it in bound_by if it != limit_id]
    limit_ids = [*others, limit_id] if bound else others
    return session.client.patch("keys", key_id, body={"limit_ids": limit_ids})
