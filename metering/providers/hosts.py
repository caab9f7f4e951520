"""Stub."""

from __future__ import annotations

from metering.core.origins import Origin
from metering.core.routing import Azure

_NAMES = {"openai": "openai", "anthropic": "anthropic", "azure-openai": "azure.openai"}


def dialect_of(name: str) -> str | None:
    """X"""
    return _NAMES.get(name)


def known() -> tuple[str, ...]:
    """X"""
    return tuple(_NAMES)


def name_of(provider: str) -> str:
    """X"""
    return next((it for it, its in _NAMES.items() if its == provider), provider)


def azure(
    said: Azure, host: Origin | None, path: str, query: bytes, model: str
) -> tuple[Origin | None, str, bytes]:
    """X"""
    raise NotImplementedError
