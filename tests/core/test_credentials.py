"""Who may use which credential, which ones can serve, and what they are called."""

from __future__ import annotations

import pytest

from metering.core.annotations import annotate
from metering.core.credentials import (
    SLUG,
    Credential,
    bound_to,
    check_usable,
    defaults_topic,
    environment_slug,
    may_bring_own,
    may_use,
    topic,
)
from metering.core.sealing import Secret
from metering.errors import InvalidApiKey, InvalidRequest, NotAllowed

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("permissions", "main", "other", "env", "own"),
    [
        # permissions                       main   other  env-openai  own
        ("", True, True, True, True),
        ("price_as base_uri", True, True, True, True),
        ("manage_credentials", True, True, True, True),
        ("credential:main", True, False, False, False),
        ("credential:main price_as", True, False, False, False),
        ("credential:*", True, True, True, False),
        ("own_credential", False, False, False, True),
        ("own_credential credential:main", True, False, False, True),
        ("credential:env-openai", False, False, True, False),
        ("credential:mai", False, False, False, False),
        ("credential:main2", False, False, False, False),
    ],
)
def test_what_permissions_allow(
    permissions: str, *, main: bool, other: bool, env: bool, own: bool
) -> None:
    """Who names none may use all and bring his own; who names any may do what is named, no more."""
    held = frozenset(permissions.split())
    slugs = ("main", "other", environment_slug("openai"))
    assert tuple(may_use(held, slug) for slug in slugs) == (main, other, env)
    assert may_bring_own(held) is own


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"provider": "anthropic"}, "credential_of_another_provider"),
        ({"blocked": True}, "credential_blocked"),
        ({"secret": None}, "credential_needs_secret"),
        ({"blocked": True, "secret": None}, "credential_blocked"),
        ({"blocked": True, "expires_ms": NOW_MS}, "credential_blocked"),
        ({"secret": None, "expires_ms": NOW_MS + 1}, "credential_needs_secret"),
    ],
)
def test_what_cannot_serve_says_why(members: dict[str, object], code: str) -> None:
    """Of another provider, blocked, or without a secret: refused with the header's name."""
    values = {"slug": "main", "provider": "openai", "secret": Secret("s")} | members
    with pytest.raises(NotAllowed) as refused:
        check_usable(Credential(**values), "openai", NOW_MS)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.field) == (code, "xProxy-Credential")
    assert "'main'" in refused.value.message


def test_what_has_expired_says_so() -> None:
    """From its moment on, with a code and a status of its own."""
    credential = Credential(
        slug="main", provider="openai", secret=Secret("s"), expires_ms=NOW_MS + 1
    )
    check_usable(credential, "openai", NOW_MS)
    for later_ms in (1, 2):
        with pytest.raises(InvalidApiKey, match="'main' has expired") as refused:
            check_usable(credential, "openai", NOW_MS + later_ms)
        assert (refused.value.code, refused.value.status) == ("credential_expired", 401)


def test_what_can_serve_reveals_its_secret() -> None:
    """And nothing shows it before."""
    credential = Credential(slug="main", provider="openai", secret=Secret("sk-1"))
    check_usable(credential, "openai", NOW_MS)
    assert credential.revealed() == "sk-1"
    assert "sk-1" not in repr(credential)
    with pytest.raises(ValueError, match="main"):
        Credential(slug="main", provider="openai").revealed()


def test_what_a_secret_is_bound_to() -> None:
    """Every part counts; no origin is an origin of its own."""
    parts: list[tuple[str, str, str, str | None]] = [
        ("a", "c", "p", None),
        ("b", "c", "p", None),
        ("a", "d", "p", None),
        ("a", "c", "q", None),
        ("a", "c", "p", "https://x"),
    ]
    assert len({bound_to(*its) for its in parts}) == len(parts)


def test_topics_name_their_application() -> None:
    """What is told of one application is not told of another."""
    assert topic("a", "main") == "credential:a:main"
    assert defaults_topic("a") == "default_credentials:a"


@pytest.mark.parametrize("slug", ["a", "0", "main", "a-b_c", "a" * 64])
def test_slugs(slug: str) -> None:
    """Lower case, digits, `-` and `_`: what fits in headers, paths and permissions as it is."""
    assert SLUG.fullmatch(slug)
    assert annotate([(b"xproxy-credential", slug.encode())]).credential == slug


@pytest.mark.parametrize("slug", ["A", "-a", "_a", "a b", "a.b", "a/b", "a" * 65, "ä", "a,b", "*"])
def test_what_is_no_slug(slug: str) -> None:
    """Refused by the header's name, before anything is looked up."""
    with pytest.raises(InvalidRequest) as refused:
        annotate([(b"xProxy-Credential", slug.encode())])
    assert (refused.value.code, refused.value.field) == ("invalid_credential", "xProxy-Credential")
