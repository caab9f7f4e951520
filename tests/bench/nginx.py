"""nginx in two roles: the upstream that always answers the same, and the proxy to compare with."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.standin.service import free_port

PATH = "/v1/chat/completions"
READY_S = 10.0
INSTALL = "apt-get install nginx-light wrk"

COMMON = """
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/error.log error;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    {rest}
}}
"""
UPSTREAM = """
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = {path} {{ return 200 '{answer}'; }}
        location = /status {{ stub_status; }}
    }}
"""
PROXY = """
    upstream provider {{
        server 127.0.0.1:{upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
"""


def program(name: str) -> str:
    """The path of nginx or wrk; raises SystemExit with the line that installs them."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{name} is not installed; try: {INSTALL}")
    return found


class Nginx:
    """One nginx process on a loopback port, with everything it writes in a directory of its own."""

    def __init__(self, place: Path, rest: str, port: int) -> None:
        self.place = place
        self.port = port
        self._config = COMMON.format(place=place, rest=rest)
        self._asked = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.place.mkdir()
        config = self.place / "nginx.conf"
        config.write_text(self._config)
        command = [program("nginx"), "-p", str(self.place), "-c", str(config)]
        command += ["-e", str(self.place / "error.log")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            self._wait_ready(self._process)
        except BaseException:  # Ctrl-C too must not leave it behind
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_S
        while not _listening(self.port):
            if process.poll() is not None or time.monotonic() > deadline:
                error = (self.place / "error.log").read_text(errors="replace")
                raise RuntimeError(f"nginx did not start:\n{error}")
            time.sleep(0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def requests(self) -> int:
        """How many calls it has answered so far, questions of this kind not counted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/status", headers={"connection": "close"})
        text = connection.getresponse().read().decode()
        connection.close()
        match = re.search(r"\n\s*\d+ \d+ (\d+)\s", text)
        assert match is not None, text
        self._asked += 1
        return int(match[1]) - self._asked


def upstream(place: Path, answer: bytes) -> Nginx:
    """An nginx that answers every chat completion with the same bytes."""
    text = answer.decode()
    if "'" in text or "$" in text or "\\" in text:
        raise ValueError("nginx would read ', $ and \\ of the answer as its own")
    port = free_port()
    return Nginx(place, UPSTREAM.format(port=port, path=PATH, answer=text), port)


def proxy(place: Path, provider: Nginx) -> Nginx:
    """An nginx that proxies another, over connections kept alive."""
    port = free_port()
    return Nginx(place, PROXY.format(port=port, upstream=provider.port), port)


def _listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
