"""The data plane: SDK traffic in, the provider's answer out, metered."""

from __future__ import annotations
