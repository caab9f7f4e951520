"""What a call says about itself: the `xProxy-*` headers, current and legacy names, any case."""

from __future__ import annotations

from typing import Literal

import msgspec


class Annotations(msgspec.Struct, frozen=True, kw_only=True):
    """The annotations of one call, checked."""

    limit_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    user_id: str | None = None
    account_name: str | None = None
    use_case_name: str | None = None
    use_case_id: str | None = None
    use_case_version: int | None = None
    use_case_step: str | None = None
    properties: dict[str, str | None] = {}
    use_case_properties: dict[str, str | None] = {}
    price_as_category: str | None = None
    price_as_resource: str | None = None
    scope: str | None = None
    logging_disabled: bool = False
    result_off: bool = False
    """`xProxy-Result: off`: bodies stay untouched."""
    on_disconnect: Literal["drain", "cancel"] = "drain"
    """`xProxy-On-Disconnect`: finish reading the provider's stream, or close it and estimate."""
