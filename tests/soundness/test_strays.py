"""Calls from threads that inherited no context: they may belong to any run and any step body that is open."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from musubito import StepConfiguration, StepType, musubito_step, run
from tests.soundness.world import World, forced, ttl

STOCHASTIC = StepConfiguration(step_type=StepType.STOCHASTIC)


def in_a_pool(step, arguments):
    with ThreadPoolExecutor(3) as pool:
        return [result.value for result in pool.map(step, arguments)]


def test_an_outer_step_does_not_outlive_what_a_pool_called_for_it(w: World) -> None:
    @musubito_step(ttl(5), name="inner")
    def inner(x: int) -> int:
        w.count("inner")
        return x

    @musubito_step(name="outer")
    def outer() -> list[int]:
        w.count("outer")
        return in_a_pool(inner, [1, 2])

    outer()
    outer()
    assert w.ran == {"inner": 2, "outer": 1}
    w.now += 5
    outer()
    assert w.ran == {"inner": 4, "outer": 2}


def test_replaced_in_a_pool_invalidates_the_outer_step(w: World) -> None:
    @musubito_step(name="inner")
    def inner(x: int) -> int:
        return w.draw("inner")

    @musubito_step(name="outer")
    def outer() -> list[int]:
        w.count("outer")
        return in_a_pool(inner, [1])

    first = outer().value
    in_a_pool(forced(inner), [1])  # where the first was called: what holds around a step is not inherited either
    assert outer().value != first
    assert w.ran["outer"] == 2


def test_a_replay_in_a_pool_counts_for_the_outer_step_too(w: World) -> None:
    @musubito_step(ttl(5), name="inner")
    def inner(x: int) -> int:
        return w.draw("inner")

    @musubito_step(name="outer")
    def outer() -> list[int]:
        w.count("outer")
        return in_a_pool(inner, [1])

    in_a_pool(inner, [1])
    w.now += 3
    outer()
    w.now += 3
    outer()
    assert w.ran["outer"] == 2


def test_a_pool_that_votes_in_a_run_gets_different_samples(w: World) -> None:
    @musubito_step(STOCHASTIC, name="vote")
    def vote(question: int) -> int:
        return w.draw("vote")

    with run():
        first = in_a_pool(vote, [1] * 5)
    with run():
        again = in_a_pool(vote, [1] * 5)
    assert len(set(first)) == 5
    assert set(again) == set(first)
    assert w.ran["vote"] == 5


def test_a_pool_and_the_run_itself_get_different_samples(w: World) -> None:
    @musubito_step(STOCHASTIC, name="vote")
    def vote(question: int) -> int:
        return w.draw("vote")

    with run():
        votes = [vote(1).value, *in_a_pool(vote, [1, 1]), vote(1).value]
    assert len(set(votes)) == 4


def test_two_runs_with_pools_give_no_sample_twice_in_either(w: World) -> None:
    @musubito_step(STOCHASTIC, name="vote")
    def vote(question: int) -> int:
        return w.draw("vote")

    with run():
        votes = in_a_pool(vote, [1])
        with ThreadPoolExecutor(1) as pool:

            def other() -> list[int]:
                with run():
                    return [vote(1).value]

            pool.submit(other).result()
            votes += in_a_pool(vote, [1])
    assert len(set(votes)) == 2


def test_an_unrelated_call_hands_nothing_up(w: World) -> None:
    @musubito_step(ttl(5), name="other")
    def other(x: int) -> int:
        return x

    def elsewhere() -> None:
        w.elsewhere(lambda: other(1))

    @musubito_step(name="outer")
    def outer() -> int:
        w.count("outer")
        w.happens("in outer")
        return 1

    w.hooks["in outer"] = elsewhere
    outer()
    w.now += 10
    outer()
    assert w.ran["outer"] == 1


def test_nothing_stays_open(w: World) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        if x < 0:
            raise ValueError
        return x

    for x in (1, 1, -1):
        try:
            f(x)
        except ValueError:
            pass
    with run():
        f(2)
    assert not w.engine.open._runs
    assert not w.engine.open._frames
