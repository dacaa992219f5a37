"""The decision is a pure function: every rule by itself, and which reason goes first."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.model import ReplayReason, StepConfiguration, StepType
from musubito.policy import SKEW, decide, no, yes

HITS = {ReplayReason.EXACT_HIT, ReplayReason.EARLY_CUTOFF_HIT, ReplayReason.CROSS_PARENT_HIT}


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


def test_what_is_fine_is_replayed() -> None:
    decision = decide(FINE, PLAIN, 100.0)
    assert decision == yes(ReplayReason.EXACT_HIT)
    assert decision.replay


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


times = st.floats(-1e6, 1e6)
executions = st.builds(
    Stored,
    outcome=st.sampled_from([0, 1]),
    invalid=st.sampled_from([0, 1]),
    not_replayable=st.sampled_from([None, "why"]),
    started_at=times,
    valid_from=st.none() | times,
    valid_until=st.none() | times,
)
policies = st.builds(
    StepConfiguration,
    force_reexecution=st.booleans(),
    ttl_seconds=st.none() | st.floats(0, 1e6),
)


@given(executions, policies, times)
def test_it_replays_only_if_every_rule_agrees(stored: Stored, policy: StepConfiguration, now: float) -> None:
    expected = (
        not policy.force_reexecution
        and stored.outcome == 1
        and not stored.invalid
        and stored.not_replayable is None
        and (policy.ttl_seconds is None or -SKEW <= now - stored.started_at < policy.ttl_seconds)
        and (stored.valid_until is None or now < stored.valid_until)
        and (stored.valid_until is None or stored.valid_from is None or now >= stored.valid_from - SKEW)
    )
    decision = decide(stored, policy, now)
    assert decision.replay is expected
    assert (decision.reason in HITS) is expected
    assert decide(stored, policy, now) is decision


def test_it_never_reads_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> float:
        raise AssertionError("a clock was read")

    for name in ("time", "monotonic", "perf_counter", "time_ns"):
        monkeypatch.setattr(time, name, fail)
    decide(FINE, StepConfiguration(ttl_seconds=1), 100)


@pytest.mark.parametrize("reason", list(ReplayReason))
def test_decisions_are_what_they_say(reason: ReplayReason) -> None:
    assert (yes(reason).replay, yes(reason).reason) == (True, reason)
    assert (no(reason).replay, no(reason).reason) == (False, reason)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"ttl_seconds": -1}, ValueError),
        ({"ttl_seconds": math.nan}, ValueError),
        ({"step_type": "determinist"}, ValueError),
        ({"step_type": 3}, TypeError),
        ({"on_unknown": "again"}, ValueError),
        ({"force_reexecution": "yes"}, TypeError),
        ({"force_reexecution": 1}, TypeError),
        ({"allow_cross_parent_reuse": 3}, TypeError),
        ({"record_inputs": None}, TypeError),
    ],
)
def test_policies_are_checked_when_they_are_made(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        StepConfiguration(**wrong)
