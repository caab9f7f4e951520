"""The command line `xproxy`: one module per command, loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import rich_click as click

from metering import __version__

COMMANDS = (
    "serve",
    "keys",
    "limits",
    "usage",
    "budgets",
    "prices",
    "applications",
    "credentials",
    "secret",
    "audit",
    "import",
    "worker",
    "keeper",
)
"""Each is a module here that has `command`."""
MODULES = {"import": "imports"}
"""Of a command that is called as no module can be."""


def _module(name: str) -> str:
    return f"{__name__}.{MODULES.get(name, name)}"


class Commands(click.RichGroup):
    """A group that imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """The commands that are installed, in the order of the table."""
        return [name for name in COMMANDS if find_spec(_module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(_module(cmd_name)).command
        return found


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings are environment variables; docs/configuration.md lists them.",
)
@click.version_option(__version__, prog_name="xproxy", message="%(prog)s %(version)s")
def main() -> None:
    """Know what every LLM call costs, and keep its budgets.

    Start with `xproxy serve`; it prints a key and what to paste.
    """
