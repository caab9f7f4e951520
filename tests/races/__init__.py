"""Races for a limit: by how much it is overrun, and who is refused wrongly. See docs/limits.md."""
