"""Who and what a call names: keys, limits, what limits are attached to, and stored credentials.

`Names` finds them in memory, then Redis, then Postgres, and forgets what has changed; `Directory`
says what there is, and opens credentials; `Attempts` counts keys that are none, and `Uses` when
keys were used.
"""

from __future__ import annotations

from metering.directory.attempts import Attempts
from metering.directory.directory import Caller, Directory, Held
from metering.directory.names import attached_topic, key_topic, limit_topic, profiles_topic

__all__ = [
    "Attempts",
    "Caller",
    "Directory",
    "Held",
    "attached_topic",
    "key_topic",
    "limit_topic",
    "profiles_topic",
]
