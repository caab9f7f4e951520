"""One frozen `Settings`, read once from the environment. `docs/configuration.md` lists them all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

import msgspec

PLACEHOLDERS = frozenset({"changeme", "sk-1234", "secret", "password", "admin", "test"})


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it and says what to do."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, with its default. The environment's name is `XPROXY_` + the field's in upper
    case, unless `docs/configuration.md` says otherwise."""

    host: str = "127.0.0.1"
    port: int = 8787
    workers: int = 1
    data_dir: Path = Path(".xproxy")
    database_url: str | None = None
    """`DATABASE_URL`; None starts a private PostgreSQL under the data directory."""
    redis_url: str | None = None
    """`REDIS_URL`; None starts a private Valkey under the data directory."""
    admin_key: str | None = None
    master_secret: str | None = None
    master_secret_previous: str | None = None
    """The one before, while both are accepted: see `docs/configuration.md`."""
    anonymous: Literal["off", "loopback"] = "off"
    """`loopback`: provider calls from this machine need no key of ours."""
    failed_logins_max: int = 20
    """How many keys that are none may be shown in a minute, from one address or with one beginning;
    0: any number."""
    trusted_proxies: str | None = None
    """Addresses and networks, by commas, whose `X-Forwarded-For` says who the client is."""
    unpriced: Literal["default", "refuse", "estimate", "allow"] = "default"
    """`default`: refuse under a binding limit, else allow and flag."""
    budget_status: int | None = None
    """The status of calls that limits refuse; None: each surface's own, 400 or 412."""
    body_bytes_max: int = 32 * 1024 * 1024
    body_s: int = 60
    """How long a request's body may take to arrive."""
    json_bytes_max: int = 8 * 1024 * 1024
    """JSON answers up to this size are buffered and spliced; larger ones stream through."""
    provider_connect_s: int = 10
    provider_idle_s: int = 590
    """How long a provider may be silent."""
    provider_total_s: int = 3_600
    """How long an answer may take in all."""
    bodies_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 30
    """How many days the bodies of reported calls are kept; 0: not at all."""
    key_calls_max: int = 1_000
    """How many calls of one key a worker has under way at most."""
    drain_s: int = 30
    """How long a stream is read on after its client left."""
    drain_tokens: int = 16_000
    redis_timeout_ms: int = 250
    hold_ttl_ms: int = 30_000
    heartbeat_ms: int = 5_000
    reap_ms: int = 2_000
    shutdown_s: int = 60
    openai_api_key: str | None = None
    """`OPENAI_API_KEY`"""
    anthropic_api_key: str | None = None
    """`ANTHROPIC_API_KEY`"""
    openai_base_url: str = "https://api.openai.com/v1"
    """`OPENAI_BASE_URL`"""
    anthropic_base_url: str = "https://api.anthropic.com"
    """`ANTHROPIC_BASE_URL`"""
    allow_private_origins: Literal["off", "on"] = "off"
    """Whether callers may choose private addresses, plain http and any port."""
    provider_origins: str | None = None
    """The only hosts that callers may choose, by commas; `*.suffix` for all below. None: any."""
    url: str | None = None
    """Where the management commands find the service; None: the run file in the data directory."""
    api_key: str | None = None
    """The key the management commands show; None: the admin key, else a token made on the spot
    from the data directory's master secret."""
    pg_bin: Path | None = None
    """The directory of `initdb` and `postgres`, instead of the installed wheel's."""
    valkey_bin: Path | None = None
    """The program `valkey-server` or `redis-server`, instead of the installed wheel's."""

    def provider_hosts(self) -> list[str]:
        """The hosts of `provider_origins`."""
        listed = (self.provider_origins or "").split(",")
        return [host for item in listed if (host := item.strip().lower())]

    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of `trusted_proxies`; raises ValueError for what is none."""
        listed = (self.trusted_proxies or "").split(",")
        return tuple(ip_network(item) for part in listed if (item := part.strip()))


HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9])?|[0-9a-f:.]+")
"""A name in ASCII, a suffix, or an address."""
UNPREFIXED = frozenset(
    {
        "database_url",
        "redis_url",
        "openai_api_key",
        "anthropic_api_key",
        "openai_base_url",
        "anthropic_base_url",
    }
)


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return field.upper() if field in UNPREFIXED else f"XPROXY_{field.upper()}"


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of an environment (the process's own by default); raises SettingsError."""
    environment = os.environ if environment is None else environment
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        text = environment.get(variable(field.name), "").strip()
        if text:
            values[field.name] = _convert(field, text)
    settings = Settings(**values)  # type: ignore[arg-type]
    for secret in ("admin_key", "master_secret", "master_secret_previous"):
        _check_secret(variable(secret), getattr(settings, secret))
    _check_hosts(variable("provider_origins"), settings)
    _check_proxies(variable("trusted_proxies"), settings)
    return settings


def environment(settings: Settings) -> dict[str, str]:
    """The process's environment with these settings in it, for a child that reads them again."""
    values = {variable(name): value for name, value in msgspec.structs.asdict(settings).items()}
    rest = {name: value for name, value in os.environ.items() if name not in values}
    return rest | {name: str(value) for name, value in values.items() if value is not None}


def _convert(field: msgspec.structs.FieldInfo, text: str) -> object:
    if field.type in {Path, Path | None}:
        return Path(text)
    try:
        return msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{variable(field.name)}={text!r}: {error}") from None


def _check_secret(name: str, value: str | None) -> None:
    if value is not None and (len(value) < 32 or value.lower() in PLACEHOLDERS):
        raise SettingsError(
            f"{name} is a placeholder or shorter than 32 characters; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )


def _check_hosts(name: str, settings: Settings) -> None:
    hosts = settings.provider_hosts()
    wrong = [host for host in hosts if not HOST.fullmatch(host)]
    if wrong or (settings.provider_origins and not hosts):
        raise SettingsError(
            f"{name}={settings.provider_origins!r}: list hosts by commas, without scheme and port, "
            "such as *.openai.azure.com, gateway.example.com"
        )


def _check_proxies(name: str, settings: Settings) -> None:
    try:
        settings.proxies()
    except ValueError as error:
        raise SettingsError(
            f"{name}={settings.trusted_proxies!r}: {error}; list addresses and networks by commas, "
            "such as 10.0.0.0/8, 192.0.2.7"
        ) from None
