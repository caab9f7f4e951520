"""`xproxy secret`: the master secret, which seals what is stored."""

from __future__ import annotations

import rich_click as click

from metering.cli.session import Session, managed


@click.group("secret")
def command() -> None:
    """The master secret: which one is in force, and the next one.

    \b
    xproxy secret show
    xproxy secret rotate
    """


@command.command("show")
@managed
def show(session: Session) -> None:
    """The ids of the master secrets that are held, and how many stored secrets each wraps."""
    answer = session.client.get("secret")
    wrapped = answer["wrapped"]
    names = dict.fromkeys((*answer["held"], *wrapped))
    rows = ((name, name in answer["held"], wrapped.get(name, 0)) for name in names)
    session.show(answer, ("id", "held", "wraps"), rows)


@command.command("rotate")
@managed
def rotate(session: Session) -> None:
    """Have a new master secret wrap everything, without a pause; the old one opens nothing then.

    With a secret of the data directory's own, that is all. One that you set yourself is followed by
    the one in XPROXY_MASTER_SECRET: start every process with it first, and with the one in force as
    XPROXY_MASTER_SECRET_PREVIOUS, which you take away afterwards.
    """
    answer = session.client.post("secret", "rotate")
    session.say(
        answer,
        f"Rotated the master secret: {answer['now']} in place of {answer['before']}; "
        f"{answer['credentials']} credentials wrapped anew",
    )
