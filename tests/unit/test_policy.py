"""The decision is a pure function: every rule by itself, and which reason goes first."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from musubito.model import ReplayReason, StepConfiguration, StepType
from musubito.policy import SKEW, decide, no


@dataclass(frozen=True)
class Stored:
    outcome: int = 1
    invalid: int = 0
    not_replayable: str | None = None
    started_at: float = 100.0
    valid_from: float | None = None
    valid_until: float | None = None


FINE = Stored()
PLAIN = StepConfiguration()


@pytest.mark.parametrize(
    ("stored", "policy", "now", "reason"),
    [
        ({}, {"force_reexecution": True}, 100, ReplayReason.FORCE_REEXECUTION),
        ({"outcome": 0}, {}, 100, ReplayReason.NODE_FAILED),
        ({"invalid": 1}, {}, 100, ReplayReason.NODE_INVALID),
        ({"not_replayable": "it wrote"}, {}, 100, ReplayReason.NOT_REPLAYABLE),
        ({"not_replayable": ""}, {}, 100, ReplayReason.NOT_REPLAYABLE),
        ({}, {"ttl_seconds": 5}, 100 - SKEW - 0.001, ReplayReason.CLOCK_BEHIND),
        ({}, {"ttl_seconds": 5}, math.nan, ReplayReason.TTL_EXPIRED),
        ({"valid_until": math.nan}, {}, 100, ReplayReason.DEPENDENCY_EXPIRED),
        ({"valid_from": math.nan, "valid_until": 105}, {}, 100, ReplayReason.CLOCK_BEHIND),
        ({}, {"ttl_seconds": 5}, 105, ReplayReason.TTL_EXPIRED),
        ({}, {"ttl_seconds": 0}, 100, ReplayReason.TTL_EXPIRED),
        ({"valid_until": 105}, {}, 105, ReplayReason.DEPENDENCY_EXPIRED),
        ({"valid_from": 203, "valid_until": 205}, {}, 203 - SKEW - 0.001, ReplayReason.CLOCK_BEHIND),
    ],
)
def test_each_rule_by_itself(stored: dict[str, Any], policy: dict[str, Any], now: float, reason: ReplayReason) -> None:
    assert decide(replace(FINE, **stored), replace(PLAIN, **policy), now) == no(reason)


@pytest.mark.parametrize(
    ("stored", "policy", "now"),
    [
        ({}, {"ttl_seconds": 5}, 104.999),
        ({}, {"ttl_seconds": math.inf}, 1e12),
        ({"valid_until": 105}, {}, 104.999),
        ({}, {}, -math.inf),
        ({}, {"ttl_seconds": 5}, 100 - SKEW),
        ({"valid_from": 203, "valid_until": 205}, {}, 203 - SKEW),
        ({"valid_from": 203}, {}, 100),
        ({}, {"allow_cross_parent_reuse": True, "step_type": StepType.STOCHASTIC}, 100),
    ],
)
def test_what_is_just_within(stored: dict[str, Any], policy: dict[str, Any], now: float) -> None:
    assert decide(replace(FINE, **stored), replace(PLAIN, **policy), now).replay


def test_which_reason_goes_first() -> None:
    stored = Stored(outcome=0, invalid=1, not_replayable="x", valid_from=200, valid_until=0)
    policy = StepConfiguration(force_reexecution=True, ttl_seconds=0)
    order = []
    for change in (
        None,
        {"force_reexecution": False},
        {"outcome": 1},
        {"invalid": 0},
        {"not_replayable": None},
        {"ttl_seconds": None},
    ):
        if change is not None:
            on_policy = {name: value for name, value in change.items() if hasattr(policy, name)}
            on_stored = {name: value for name, value in change.items() if hasattr(stored, name)}
            policy, stored = replace(policy, **on_policy), replace(stored, **on_stored)
        order.append(decide(stored, policy, 150).reason)
    assert order == [
        ReplayReason.FORCE_REEXECUTION,
        ReplayReason.NODE_FAILED,
        ReplayReason.NODE_INVALID,
        ReplayReason.NOT_REPLAYABLE,
        ReplayReason.TTL_EXPIRED,
        ReplayReason.DEPENDENCY_EXPIRED,
    ]


def test_it_never_reads_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> float:
        raise AssertionError("a clock was read")

    for name in ("time", "monotonic", "perf_counter", "time_ns"):
        monkeypatch.setattr(time, name, fail)
    decide(FINE, StepConfiguration(ttl_seconds=1), 100)
