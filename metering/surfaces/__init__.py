"""Each client family's dialect: its paths, what its calls say of themselves, its errors. Pure."""

from __future__ import annotations

from metering.surfaces.base import Surface
from metering.surfaces.litellm import ANTHROPIC, OPENAI
from metering.surfaces.payi import PAYI
from metering.surfaces.portkey import UNIFIED

__all__ = ["ANTHROPIC", "OPENAI", "PAYI", "SURFACES", "UNIFIED", "Surface", "surface_of"]
SURFACES: tuple[Surface, ...] = (PAYI, ANTHROPIC, OPENAI, *UNIFIED)
_ROOTS = tuple((root.encode(), surface) for surface in SURFACES for root in surface.roots)


def surface_of(raw_path: bytes) -> Surface | None:
    """Whose path this is, as it stands on the wire; None: it is no call to a provider."""
    for root, surface in _ROOTS:
        if raw_path.startswith(root):
            return surface
    return surface_of(b"/" + raw_path.lstrip(b"/")) if raw_path.startswith(b"//") else None
