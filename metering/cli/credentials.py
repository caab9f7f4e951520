"""`xproxy credentials`: providers' keys, stored sealed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import rich_click as click

from metering.cli.session import Session, cell, fail, managed

secret_file = click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the secret; else it is asked for, or read from standard input.",
)
default_option = click.option(
    "--default/--no-default",
    "is_default",
    default=None,
    help="Whether it serves the application's calls to the provider by itself.",
)


@click.group("credentials")
def command() -> None:
    """Providers' keys, stored sealed. They go in here and never out, and only to their own origin.

    \b
    xproxy credentials create main --provider openai --default
    xproxy credentials create eu --provider azure.openai --origin https://eu.openai.azure.com
    xproxy credentials test main
    xproxy credentials rotate main < new-key.txt
    """


@command.command("create")
@click.argument("slug")
@click.option("--provider", required=True, help="E.g. openai, anthropic, azure.openai.")
@click.option("--name", help="What it is for.")
@click.option("--origin", help="The only place it goes. By default the service's own base URL.")
@default_option
@secret_file
@managed
def create(
    session: Session,
    *,
    slug: str,
    provider: str,
    name: str | None,
    origin: str | None,
    is_default: bool | None,
    secret_file: Path | None,
) -> None:
    """Store a provider's key under a slug; calls name it in xProxy-Credential.

    The key is never an argument: others on this machine could read that.
    """
    body: dict[str, object] = {"slug": slug, "provider": provider, "secret": read(secret_file)}
    body |= {"name": name} if name else {}
    body |= {"origin": origin} if origin else {}
    body |= {"is_default": True} if is_default else {}
    answer = session.client.post("credentials", body=body)
    session.say(answer, f"Stored credential {slug}{_ending(answer)}")


@command.command("list")
@managed
def list_(session: Session) -> None:
    """List the credentials, never their secrets."""
    found = list(session.client.items("credentials"))
    columns = ("slug", "provider", "origin", "default", "secret", "state", "set", "name")
    rows = (
        (
            one["slug"],
            one["provider"],
            one.get("origin"),
            one["is_default"],
            f"...{one['last4']}" if one.get("last4") else None,
            one["state"],
            one.get("secret_set_at"),
            one["name"],
        )
        for one in found
    )
    session.show(found, columns, rows)


@command.command("show")
@click.argument("slug")
@managed
def show(session: Session, slug: str) -> None:
    """Show all that is known of one credential."""
    answer = session.client.get("credentials", slug)
    rows = ((name, cell(value)) for name, value in answer.items() if name != "request_id")
    session.show(answer, ("", slug), rows)


@command.command("update")
@click.argument("slug")
@click.option("--name", help="What it is for.")
@click.option("--origin", help="The only place it goes; voids the secret unless that is given too.")
@click.option("--no-origin", is_flag=True, help="It goes to the service's own base URL; likewise.")
@click.option("--block/--unblock", "blocked", default=None, help="Whether calls may use it.")
@click.option("--with-secret", is_flag=True, help="Ask for its secret too.")
@default_option
@secret_file
@managed
def update(
    session: Session,
    *,
    slug: str,
    name: str | None,
    origin: str | None,
    no_origin: bool,
    blocked: bool | None,
    with_secret: bool,
    is_default: bool | None,
    secret_file: Path | None,
) -> None:
    """Change a credential, at once on every worker.

    \b
    xproxy credentials update main --block
    xproxy credentials update eu --origin https://eu2.openai.azure.com --with-secret
    """
    given = {"name": name, "origin": origin, "blocked": blocked, "is_default": is_default}
    body: dict[str, Any] = {member: value for member, value in given.items() if value is not None}
    if no_origin:
        body["origin"] = None
    if with_secret or secret_file:
        body["secret"] = read(secret_file)
    if not body:
        fail("nothing to change: see xproxy credentials update --help")
    answer = session.client.patch("credentials", slug, body=body)
    session.say(answer, f"Changed credential {slug}{_ending(answer)}")


@command.command("rotate")
@click.argument("slug")
@secret_file
@managed
def rotate(session: Session, slug: str, secret_file: Path | None) -> None:
    """Give a credential another secret; calls use it at once."""
    body = {"secret": read(secret_file)}
    answer = session.client.post("credentials", slug, "rotate", body=body)
    session.say(answer, f"Rotated credential {slug}{_ending(answer)}")


@command.command("test")
@click.argument("slug")
@managed
def test(session: Session, slug: str) -> None:
    """Show a credential to its provider once; costs nothing. Exit code 1 unless it is accepted."""
    answer = session.client.post("credentials", slug, "test")
    found = answer.get("status") or answer.get("reason")
    session.say(answer, f"Credential {slug}: {answer['outcome']} ({found})")
    if answer["outcome"] != "accepted":
        sys.exit(1)


@command.command("delete")
@click.argument("slug")
@managed
def delete(session: Session, slug: str) -> None:
    """Delete a credential: calls that need it are refused from now on."""
    answer = session.client.delete("credentials", slug)
    session.say(answer, f"Deleted credential {slug}")


def read(file: Path | None) -> str:
    """A secret: of a file, asked for where somebody sits, or from standard input."""
    if file is not None:
        text = file.read_text()
    elif sys.stdin.isatty():
        text = click.prompt("Secret", hide_input=True, err=True)
    else:
        text = sys.stdin.read()
    return text.strip()


def _ending(answer: dict[str, Any]) -> str:
    if answer["state"] == "needs_secret":
        return f"; it has no secret now, set one: xproxy credentials rotate {answer['slug']}"
    return f", ...{answer['last4']}" if answer["last4"] else ""
