"""Names that callers chose: looked up once, every answer judged, remembered for a while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from metering.core.origins import Origin, parse
from metering.errors import InvalidRequest
from metering.upstream import Resolver, resolver

PUBLIC, OTHER = "93.184.215.14", "2606:4700::1111"
HOST = parse("https://provider.example")


class Names:
    """A name server that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str] | BaseException, delay_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.delay_s = delay_s

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        await asyncio.sleep(self.delay_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["10.0.0.1", PUBLIC],
        [PUBLIC, OTHER, "::1"],
        [PUBLIC, "169.254.169.254"],
        [PUBLIC, "fe80::1%lo"],
        ["64:ff9b::a9fe:a9fe"],
        ["::ffff:10.0.0.1"],
        [],
    ],
)
async def test_one_bad_address_is_enough(answer: list[str]) -> None:
    """A name that has an address we do not call, or none, is refused; that is not remembered."""
    names = Names(answer, [PUBLIC])
    found = Resolver(lookup=names)
    with pytest.raises(InvalidRequest, match="xProxy-Provider-BaseUri") as caught:
        await found.addresses(HOST)
    assert caught.value.code == "invalid_provider_host"
    assert await found.addresses(HOST) == (PUBLIC,)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (socket.gaierror(socket.EAI_NONAME, "not known"), False),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), True),
        (OSError("no network"), False),
    ],
)
async def test_a_name_without_an_answer(error: OSError, again: bool) -> None:  # noqa: FBT001
    """Refused as the caller's fault; one that may answer later says so."""
    with pytest.raises(InvalidRequest) as caught:
        await Resolver(lookup=Names(error)).addresses(HOST)
    assert (caught.value.code, caught.value.should_retry) == ("invalid_provider_host", again)


async def test_a_name_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a deadline, after which the caller may try again."""
    monkeypatch.setattr(resolver, "LOOKUP_S", 0.05)
    with pytest.raises(InvalidRequest, match="in time") as caught:
        await Resolver(lookup=Names([PUBLIC], delay_s=30)).addresses(HOST)
    assert caught.value.should_retry


async def test_answers_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same addresses until their time is over, then those of a new look, judged anew."""
    names = Names([PUBLIC, OTHER, PUBLIC], ["127.0.0.1"])
    found = Resolver(lookup=names)
    assert await found.addresses(HOST) == (PUBLIC, OTHER)
    assert await found.addresses(parse("https://PROVIDER.example/other")) == (PUBLIC, OTHER)
    assert names.asked == ["provider.example"]
    assert resolver.REMEMBERED_S <= 30

    monkeypatch.setattr(resolver, "REMEMBERED_S", 0.0)
    again = Resolver(lookup=Names([PUBLIC], ["127.0.0.1"]))
    assert await again.addresses(HOST) == (PUBLIC,)
    with pytest.raises(InvalidRequest):
        await again.addresses(HOST)


async def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who name many hosts fill no memory."""
    monkeypatch.setattr(resolver, "REMEMBERED_MAX", 10)
    found = Resolver(lookup=Names([PUBLIC]))
    for number in range(100):
        await found.addresses(parse(f"https://h{number}.example"))
        assert len(found._remembered) <= 10


async def test_an_address_needs_no_name_server() -> None:
    """What is an address already is not asked about."""
    names = Names([PUBLIC])
    found = Resolver(lookup=names)
    assert await found.addresses(parse("https://8.8.8.8")) == ("8.8.8.8",)
    assert await found.addresses(parse(f"https://[{OTHER}]")) == (OTHER,)
    assert names.asked == []


async def test_private_addresses_where_the_operator_allows_them() -> None:
    """Any address is fine then, in the order given."""
    found = Resolver(private=True, lookup=Names(["10.0.0.1", PUBLIC]))
    assert await found.addresses(HOST) == ("10.0.0.1", PUBLIC)


async def test_the_system_is_asked_for_real() -> None:
    """The machine's own names are found by its own ways; not when only public ones may be."""
    local = Origin("http", "localhost", 80)
    found = Resolver(private=True)
    assert set(await found.addresses(local)) <= {"127.0.0.1", "::1"}
    found.close()
    wary = Resolver()
    with pytest.raises(InvalidRequest, match="not public"):
        await wary.addresses(local)
    wary.close()
    Resolver().close()
