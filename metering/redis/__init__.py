"""The only home of the redis package: connections, batching, scripts, and the names of keys."""

from __future__ import annotations

from metering.redis.batch import Argument
from metering.redis.connection import Redis
from metering.redis.keys import Keys, parse_record, share
from metering.redis.scripts import SCRIPTS, Script

__all__ = ["SCRIPTS", "Argument", "Keys", "Redis", "Script", "parse_record", "share"]
