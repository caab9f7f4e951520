"""The master secret is rotated under load: no call is lost, and what was before opens nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from metering.core.credentials import bound_to
from metering.core.keys import local_token
from metering.core.sealing import Master, NotOpened, context
from metering.embedded import Stores
from tests.chaos.load import Load, Seen, Target
from tests.chaos.rig import Rig, elsewhere
from tests.standin.ledger import fingerprint
from tests.standin.process import Standin
from tests.standin.recordings import ROOT
from tests.standin.service import Service

OLD, NEW = "old-master-secret-" + "0" * 24, "new-master-secret-" + "1" * 24
SECRETS = {"openai": "sk-stored-openai-of-the-rotation", "anthropic": "sk-ant-of-the-rotation"}


def quick(_: object) -> dict[str, Any]:
    """A provider that is quick, so that calls come thick."""
    return {"chunks": 3}


def store_credentials(service: Service, **whose: str) -> None:
    """A default for each provider."""
    for provider, secret in SECRETS.items():
        body = {"slug": provider, "provider": provider, "secret": secret, "is_default": True}
        service.manage("POST", "credentials", body, **whose)


def have_them_read_again(service: Service, **whose: str) -> None:
    """Every worker forgets the credentials, so that the next call opens them anew."""
    for slug in SECRETS:
        body = {"name": f"name {time.monotonic_ns()}"}
        service.manage("PATCH", f"credentials/{slug}", body, **whose)


def check(seen: list[Seen], standin: Standin, least: int) -> None:
    """Every call was answered whole, and came to the provider with a stored key."""
    assert len(seen) > least
    assert {it.status for it in seen} == {200}
    assert all(it.whole for it in seen)
    came = {it.tag: it.credential for it in standin.ledger()}
    assert {it.tag for it in seen} <= came.keys()
    used = {it.sha256 if it else None for it in came.values()}
    assert used == set(map(fingerprint, SECRETS.values()))


def wrapped(database_url: str) -> Iterator[tuple[bytes, bytes]]:
    """Everything in the database that a master secret wraps, with what it is bound to."""

    async def rows() -> list[tuple[bytes, bytes]]:
        connection = await asyncpg.connect(database_url)
        try:
            own = await connection.fetch("SELECT name, wrapped FROM secrets")
            found = [(it["wrapped"], context("secret", it["name"])) for it in own]
            for it in await connection.fetch("SELECT * FROM credentials"):
                whose = (str(it["application_id"]), str(it["credential_id"]))
                found.append((it["row_key"], bound_to(*whose, it["provider"], it["origin"])))
            return found
        finally:
            await connection.close()

    yield from elsewhere(rows())


def opens(master: Master, database_url: str) -> int:
    """How much of it a master secret opens."""
    opened = 0
    for key, bound in wrapped(database_url):
        try:
            master.unwrap(key, bound)
        except NotOpened:
            continue
        opened += 1
    return opened


def xproxy(data_dir: Path, *arguments: str) -> str:
    """What a command on the service's own machine prints."""
    command = [sys.executable, "-m", "metering", *arguments]
    environment = {"XPROXY_DATA_DIR": str(data_dir), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def secret_in(data_dir: Path) -> str:
    """The data directory's own, of which there is one."""
    [secret] = (data_dir / "master.secret").read_text().split()
    return secret


@pytest.mark.timeout(900)
def test_the_data_directorys_own(tmp_path: Path, seed: int, full: bool) -> None:  # noqa: FBT001
    """Several workers under load, rotated again and again by the command: nothing is refused, no
    old secret opens or signs anything, and the next start finds all as it was."""
    rotations = 100 if full else 8
    settings = {"XPROXY_WORKERS": "2", "XPROXY_FAILED_LOGINS_MAX": "0"}
    with Rig(tmp_path, outlive=False, **settings) as rig:
        application_id, target = rig.tenant()
        whose = {"application": application_id}
        store_credentials(rig.service, **whose)
        load = Load(
            replace(target, provider_key=None), seed=seed, clients=8, pause_s=0.005, pace=quick
        ).start()
        data_dir, old = tmp_path / "data", set[str]()
        for number in range(rotations):
            old.add(secret_in(data_dir))
            if number % 4:
                rig.service.manage("POST", "secret/rotate")
            else:
                assert "Rotated the master secret" in xproxy(data_dir, "secret", "rotate")
            have_them_read_again(rig.service, **whose)
        seen = load.stop()
        now = secret_in(data_dir)
        assert now not in old
        assert len(old) == rotations
        database_url, _ = rig.urls
        assert opens(Master(now), database_url) == 2 + len(SECRETS)
        assert [opens(Master(it), database_url) for it in old] == [0] * rotations
        for secret, status in ((now, 200), *((it, 401) for it in old)):
            token = local_token(secret.encode(), int(time.time()))
            for _ in range(4):  # both workers
                headers = {"xProxy-Api-Key": token, "Connection": "close"}
                answer = rig.service.http.get("/api/v1/keys", headers=headers)
                assert answer.status_code == status
        check(seen, rig.standin, 10 * rotations)
        assert rig.service.stop() == 0
        rig.start()
        again = Load(replace(target, provider_key=None), seed=seed + 1, clients=2, pace=quick)
        again.start()
        time.sleep(1)
        seen += again.stop()
        check(seen, rig.standin, 10 * rotations)
        print(f"{rotations} rotations, {len(seen)} calls")


@pytest.mark.timeout(900)
def test_the_operators_own_on_two_replicas(tmp_path: Path, seed: int) -> None:
    """One replica after the other gets both, everything is wrapped anew, one after the other loses
    the old one; calls go to the other one meanwhile, and none is refused."""
    with ExitStack() as stack:
        standin = stack.enter_context(Standin(tmp_path / "ledger.jsonl"))
        stores = stack.enter_context(Stores(tmp_path / "stores"))
        redis_url, database_url = (server.url for server in stores.servers)
        urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        urls["XPROXY_MASTER_SECRET"] = OLD
        replicas = [Service(tmp_path / name, standin.url, **urls) for name in ("a", "b")]
        for replica in replicas:
            stack.enter_context(replica)
        first, second = replicas
        key = first.application_key("rotated")
        whose = {"key": first.admin_key}
        application = first.manage("GET", "applications", limit=1, **whose)["items"][0]
        whose["application"] = application["application_id"]
        store_credentials(first, **whose)
        seen: list[Seen] = []

        def restart(replica: Service, **settings: str) -> None:
            """Restart a replica while the other one serves."""
            other = second if replica is first else first
            load = Load(Target(url=other.url, key=key, provider_key=None), seed=seed, clients=4)
            load.start()
            assert replica.stop() == 0
            replica.environment.pop("XPROXY_MASTER_SECRET_PREVIOUS", None)
            replica.environment |= settings
            replica.start()
            have_them_read_again(other, **(whose | {"key": other.admin_key}))
            time.sleep(0.3)
            seen.extend(load.stop())

        for replica in replicas:
            restart(replica, XPROXY_MASTER_SECRET=NEW, XPROXY_MASTER_SECRET_PREVIOUS=OLD)
        assert opens(Master(OLD), database_url) == 2 + len(SECRETS)
        loads = [
            Load(Target(url=it.url, key=key, provider_key=None), seed=seed, clients=4, pace=quick)
            for it in replicas
        ]
        for load in loads:
            load.start()
        time.sleep(0.5)
        rotated = first.manage("POST", "secret/rotate")
        assert (rotated["before"], rotated["now"]) == (Master(OLD).id, Master(NEW).id)
        have_them_read_again(first, **whose)
        time.sleep(0.5)
        for load in loads:
            seen += load.stop()
        assert opens(Master(NEW), database_url) == 2 + len(SECRETS)
        assert opens(Master(OLD), database_url) == 0
        for replica in replicas:
            restart(replica)
        check(seen, standin, 50)
        print(f"{len(seen)} calls")
        late = Service(tmp_path / "late", standin.url, **urls)
        with pytest.raises(RuntimeError, match=f"sealed under the master secret {Master(NEW).id}"):
            late.start()
        late.http.close()
