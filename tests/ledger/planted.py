"""Faults, and how they are planted into the scripts: the machine must find each.

A fault is a text of a script and what stands in its place. To plant one by hand, replace the text
in `metering/redis/lua` and run `make machine`; `test_planted` does the same to a copy. One whose
text is not there any more is no fault: `rehearsed` says so, and who changed the script finds
another place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from metering.redis import SCRIPTS
from metering.redis.scripts import Script, script


class Fault(NamedTuple):
    """What is replaced by what, in all scripts that have it, and what that breaks."""

    name: str
    breaks: str
    text: str
    by: str


CLOCK = Fault(
    "clock",
    "Nothing: time is the machine's, so that it passes when a step says so.",
    """local t = redis_call('TIME')
    moment = t[1] * 1000 + math.floor(t[2] / 1000)""",
    "moment = tonumber(redis_call('GET', 'clock'))",
)

FAULTS = (
    Fault(
        "at_least_for_more_than",
        "A limit refuses the call that just fits.",
        "if gt(tw, tp, l.mw, l.mp) then",
        "if ge(tw, tp, l.mw, l.mp) then",
    ),
    Fault(
        "carry_lost",
        "A million million pico are no dollar more.",
        "if p >= B then return w + 1, p - B end",
        "if p >= B then return w, p - B end",
    ),
    Fault(
        "borrow_lost",
        "What is taken off leaves a dollar too much.",
        "if p < 0 then return w - 1, p + B end",
        "if p < 0 then return w, p + B end",
    ),
    Fault(
        "epoch_ignored",
        "Money of an old epoch enters the new one.",
        "return present == ep or (width and tonumber(ep) > tonumber(present))",
        "return present",
    ),
    Fault(
        "hold_not_given_back",
        "A call that has ended still counts with what was likely.",
        "c[7], c[8] = sub(c[7], c[8], lw, lp)",
        "",
    ),
    Fault(
        "ceiling_for_likely",
        "A limit that blocks counts calls in flight with the most they may cost.",
        "local hw, hp, ow, op = c[7], c[8], 0, 0",
        "local hw, hp, ow, op = c[9], c[10], 0, 0",
    ),
    Fault(
        "own_ceiling_forgotten",
        "A hard cap has no room for the call that it admits.",
        "hw, hp, ow, op = c[9], c[10], cw, cp",
        "hw, hp, ow, op = c[9], c[10], 0, 0",
    ),
    Fault(
        "charged_twice",
        "Who settles twice is charged twice.",
        "if status and status ~= 'held' then return {2, r[2]} end",
        "",
    ),
    Fault(
        "corrected_twice",
        "A truth that comes twice is charged twice.",
        "if r[2] then return {2} end",
        "",
    ),
    Fault(
        "one_of_many_not_held",
        "The third limit of a call does not know of it.",
        "c[7], c[8] = add(c[7], c[8], mine.lw, mine.lp)",
        "if i < 3 then c[7], c[8] = add(c[7], c[8], mine.lw, mine.lp) end",
    ),
    Fault(
        "expiry_dropped",
        "A hold has no deadline: nobody gives it up when its worker dies.",
        "if #held > 0 then redis_call('ZADD', holds, unpack(held)) end",
        "",
    ),
    Fault(
        "expired_at_its_floor",
        "A hard cap is not charged the ceiling of a call whose truth nobody knows.",
        "if mode == 'hard' and verb == 'expire' then return cw, cp end",
        "",
    ),
    Fault(
        "released_at_a_price",
        "A call that used nothing is charged for all that.",
        "if verb == 'release' or unit == 'concurrent' then return '0', '0' end",
        "if unit == 'concurrent' then return '0', '0' end",
    ),
    Fault(
        "floor_not_raised",
        "What is certain of a call does not count before its end.",
        "c[7], c[8] = add(c[7], c[8], dw, dp)",
        "",
    ),
    Fault(
        "heartbeat_unheard",
        "A call that runs is given up like one that fell silent.",
        "redis.call('ZADD', KEYS[1], s(now + ARGV[1]), record)",
        "",
    ),
    Fault(
        "roll_forgotten",
        "A window never ends.",
        "if tonumber(start) > tonumber(l.ep) then begin(l, start) end",
        "",
    ),
    Fault(
        "holds_into_the_next_window",
        "What was held when a window began is never let go.",
        "redis_call('DEL', l.key .. ';h')",
        "",
    ),
    Fault(
        "part_too_early",
        "A rolling window loses what is still in it.",
        "math.floor(parts[i] / l.width) < oldest then",
        "math.floor(parts[i] / l.width) <= oldest then",
    ),
    Fault(
        "reset_of_who_runs",
        "A limit on calls at once forgets those that run.",
        "if l.unit ~= 'concurrent' or i < 7 or i > 11 then l.c[i] = 0 end",
        "l.c[i] = 0",
    ),
    Fault(
        "new_max_starts_anew",
        "A limit whose max is changed has spent nothing.",
        "local anew = not ep or (n[7] > tonumber(ep) and ARGV[2] ~= 'concurrent')",
        "local anew = true",
    ),
    Fault(
        "no_row",
        "A refusal leaves no row.",
        "append(outbox, KEYS[3], 'kind', 'blocked',",
        "redis_call('SADD', 'rows', 'kind', 'blocked',",
    ),
)
"""Each is caught by `test_planted`."""


def rehearsed(faults: Sequence[Fault] = ()) -> dict[str, Script]:
    """The product's scripts on the machine's clock, with faults planted."""
    texts = {name: its.text for name, its in SCRIPTS.items()}
    for fault in (CLOCK, *faults):
        assert any(fault.text in text for text in texts.values()), (
            f"{fault.name} can no longer be planted: its text is in no script"
        )
        texts = {name: text.replace(fault.text, fault.by) for name, text in texts.items()}
    return {name: script(name, text) for name, text in texts.items()}
