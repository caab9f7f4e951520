"""Settings: what the environment says, what is refused, and what a child is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.settings import Settings, SettingsError, environment, read, variable


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set."""
    assert read({}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("XPROXY_PORT", "9000", "port", 9000),
        ("XPROXY_PORT", " 9000 ", "port", 9000),
        ("XPROXY_PORT", "", "port", 8787),
        ("XPROXY_DATA_DIR", "data", "data_dir", Path("data")),
        ("XPROXY_PG_BIN", "bin", "pg_bin", Path("bin")),
        ("XPROXY_UNPRICED", "estimate", "unpriced", "estimate"),
        ("DATABASE_URL", "postgresql://x", "database_url", "postgresql://x"),
        ("OPENAI_API_KEY", "sk-x", "openai_api_key", "sk-x"),
        ("XPROXY_MASTER_SECRET", "s" * 32, "master_secret", "s" * 32),
        ("XPROXY_ALLOW_PRIVATE_ORIGINS", "on", "allow_private_origins", "on"),
        ("XPROXY_PROVIDER_ORIGINS", "a.com,*.b.com", "provider_origins", "a.com,*.b.com"),
    ],
)
def test_a_variable_sets_its_field(name: str, text: str, field: str, value: object) -> None:
    """Text becomes the field's type, trimmed; an empty variable is one that is not set."""
    assert getattr(read({name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("XPROXY_PORT", "http"),
        ("XPROXY_WORKERS", "1.5"),
        ("XPROXY_UNPRICED", "maybe"),
        ("XPROXY_ADMIN_KEY", "changeme"),
        ("XPROXY_ADMIN_KEY", "x" * 31),
        ("XPROXY_MASTER_SECRET", "short"),
        ("XPROXY_MASTER_SECRET_PREVIOUS", "short"),
        ("XPROXY_ALLOW_PRIVATE_ORIGINS", "true"),
        ("XPROXY_PROVIDER_ORIGINS", "https://a.com"),
        ("XPROXY_PROVIDER_ORIGINS", "a.com:443"),
        ("XPROXY_PROVIDER_ORIGINS", "a.com b.com"),
        ("XPROXY_PROVIDER_ORIGINS", "*"),
        ("XPROXY_PROVIDER_ORIGINS", "*.*.com"),
        ("XPROXY_PROVIDER_ORIGINS", ","),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, text: str) -> None:
    """The message names the variable."""
    with pytest.raises(SettingsError, match=name):
        read({name: text})


def test_hosts_are_listed_by_commas() -> None:
    """In any case, with space around; none is none."""
    settings = read({"XPROXY_PROVIDER_ORIGINS": " API.openai.com ,*.b-c.com,, 10.0.0.1,::1,vllm"})
    assert settings.provider_hosts() == ["api.openai.com", "*.b-c.com", "10.0.0.1", "::1", "vllm"]
    assert Settings().provider_hosts() == []


@pytest.mark.parametrize("name", ["XPROXY_ADMIN_KEY", "XPROXY_MASTER_SECRET"])
def test_a_refused_secret_is_not_repeated(name: str) -> None:
    """What was meant to be secret does not end up in a log."""
    with pytest.raises(SettingsError) as refused:
        read({name: "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_child_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings survive the way through a child's environment, and replace what was there."""
    monkeypatch.setenv("REDIS_URL", "redis://of-the-shell")
    monkeypatch.setenv("UNRELATED", "kept")
    settings = Settings(port=9000, data_dir=Path("data"), pg_bin=Path("bin"), openai_api_key="sk")
    child = environment(settings)
    assert read(child) == settings
    assert "REDIS_URL" not in child
    assert child["UNRELATED"] == "kept"


def test_every_variable_has_its_own_name() -> None:
    """No two settings share a variable."""
    names = [variable(field) for field in Settings.__struct_fields__]
    assert len(names) == len(set(names))
