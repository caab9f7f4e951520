"""Whatever limit can be created can be named in a header, and is itself and no other."""

from __future__ import annotations

import pytest
from payi import BadRequestError, Payi
from payi.lib.helpers import create_headers

from tests.acceptance.tenant import CHAT, Tenant
from tests.standin.process import Standin

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello."}]}
ODD = ("a/b_c", "100%", "a%2Cb", "a", "a:h", "a:w", "a=b", "it's", '"', "\\", "{}", "x" * 128)
"""Slashes, percents, colons: `a:h` is no part of `a`."""


def test_odd_ids_are_found_by_their_headers(tenant: Tenant, standin: Standin) -> None:
    """Each is created, named in one header with others, charged, and read by its path."""
    with Payi(api_key=tenant.key, base_url=tenant.service.url, max_retries=0) as payi:
        for limit_id in ODD:
            made = payi.limits.create(limit_name=limit_id, limit_id=limit_id, max=1)
            assert made.limit.limit_id == limit_id
        for limit_ids in (ODD, ODD[3:5]):
            headers = create_headers(limit_ids=[*limit_ids])
            answer = tenant.post(CHAT, BODY, headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["xproxy_result"]["limits"].keys() == set(limit_ids)
        for limit_id in ODD:
            totals = payi.limits.retrieve(limit_id).limit.totals
            assert totals.requests.ok == (2 if limit_id in ODD[3:5] else 1)
            assert payi.limits.delete(limit_id).request_id


@pytest.mark.parametrize("limit_id", ["a,b", "a b", " a", "a;b", "a|b", "ä", "a\tb", "x" * 129])
def test_ids_that_no_header_could_name_are_not_created(tenant: Tenant, limit_id: str) -> None:
    """The refusal says which characters an id has."""
    with (
        Payi(api_key=tenant.key, base_url=tenant.service.url, max_retries=0) as payi,
        pytest.raises(BadRequestError) as refused,
    ):
        payi.limits.create(limit_name="l", limit_id=limit_id, max=1)
    body = refused.value.response.json()
    assert body["message"].startswith("limit_id must be 1 to 128 visible ASCII characters other")
