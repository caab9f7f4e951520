"""Portkey's admin API on what this service has: virtual keys, which are stored credentials with
limits of their own. `docs/portkey.md` says what is what.
"""

ROOTS = ("/v1", "/admin", "/v1/admin")
"""Where its routes are: its SDKs ask below `/v1`."""
MODELS = "/v1/models"
"""The one of them that OpenAI has, too: its faults are OpenAI's."""
