"""What the first start prints: the keys, once, and what to paste."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from metering.app import Welcome

TEXT = """
  Welcome. These keys are shown once; keep them.

    admin key         {admin_key}
    application key   {application_key}
    demo limit        {limit_id}  (${limit_usd}, blocks when it is spent)

  Callers bring their provider's key as ever, and say who they are in a header. Where xproxy was
  started with OPENAI_API_KEY or ANTHROPIC_API_KEY, or has a key stored (xproxy credentials create
  main --provider openai --default), the application key alone is enough: put it where the
  provider's key would be.

  # OpenAI SDK
  from openai import OpenAI
  client = OpenAI(
      base_url="{url}/api/v1/proxy/openai/v1",
      default_headers={{
          "xProxy-Api-Key": "{application_key}",
          "xProxy-Limit-IDs": "{limit_id}",
      }},
  )

  # Anthropic SDK
  from anthropic import Anthropic
  client = Anthropic(
      base_url="{url}/api/v1/proxy/anthropic",
      default_headers={{
          "xProxy-Api-Key": "{application_key}",
          "xProxy-Limit-IDs": "{limit_id}",
      }},
  )

  # curl
  curl {url}/api/v1/proxy/openai/v1/chat/completions \\
    -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \\
    -H "xProxy-Api-Key: {application_key}" \\
    -H "xProxy-Limit-IDs: {limit_id}" \\
    -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Hello"}}]}}'

  # Coding agents
  export ANTHROPIC_BASE_URL={url}/api/v1/proxy/anthropic
  export ANTHROPIC_CUSTOM_HEADERS="xProxy-Api-Key: {application_key}"

  # What is left
  {command} budgets
"""


def text(url: str, welcome: Welcome) -> str:
    """The welcome for people, with the keys in it."""
    return TEXT.format(
        url=url,
        admin_key=welcome.admin_key or "the one in XPROXY_ADMIN_KEY",
        application_key=welcome.application_key,
        limit_id=welcome.limit_id,
        limit_usd=welcome.limit_usd,
        command=_command(),
    )


def _command() -> str:
    """How to type our command here: it may be installed beside a Python that is not on the path."""
    beside = Path(sys.executable).parent / "xproxy"
    if shutil.which("xproxy") or not beside.exists():
        return "xproxy"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)
