"""`xproxy applications`: the tenants."""

from __future__ import annotations

import rich_click as click

from metering.cli.session import Session, managed


@click.group("applications")
def command() -> None:
    """Applications: the tenants that own keys, limits and usage.

    \b
    xproxy applications create shop
    xproxy applications list
    xproxy applications delete 0198c1f2-...
    """


@command.command("create")
@click.argument("name")
@managed
def create(session: Session, name: str) -> None:
    """Create the application NAME and print its id.

    Then make it a key: xproxy keys create --application ID --name backend
    """
    answer = session.client.post("applications", body={"name": name})
    session.say(answer, f"Created application {answer['name']}: {answer['application_id']}")


@command.command("list")
@managed
def list_(session: Session) -> None:
    """List the applications."""
    found = list(session.client.items("applications"))
    rows = ((one["application_id"], one["name"], one["created_at"]) for one in found)
    session.show(found, ("id", "name", "created"), rows)


@command.command("update")
@click.argument("application_id")
@click.option("--name", help="Its new name.")
@click.option(
    "--idempotency/--no-idempotency",
    default=None,
    help="Whether calls with an Idempotency-Key are made once, and repetitions get their answer.",
)
@managed
def update(
    session: Session, application_id: str, name: str | None, idempotency: bool | None
) -> None:
    """Change an application.

    \b
    xproxy applications update 0198c1f2-... --idempotency
    """
    given = {"name": name, "idempotency": idempotency}
    body = {name: value for name, value in given.items() if value is not None}
    answer = session.client.patch("applications", application_id, body=body)
    repeated = "once" if answer["idempotency"] else "as often as they come"
    session.say(answer, f"{answer['name']}: calls with an Idempotency-Key are made {repeated}")


@command.command("delete")
@click.argument("application_id")
@click.confirmation_option(prompt="Delete the application with its keys and limits?")
@managed
def delete(session: Session, application_id: str) -> None:
    """Delete an application, its keys and its limits. Its usage stays on record."""
    answer = session.client.delete("applications", application_id)
    session.say(answer, f"Deleted application {application_id}")
