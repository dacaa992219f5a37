"""Within one run each stored sample is given at most once, and a second run gets each sample back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from musubito import StepConfiguration, StepType, musubito_step, run
from musubito.store.changes import RecordReplay
from tests.soundness.world import STOCHASTIC, A, B, Failing, World, forced, in_a_run, parent, under


def test_identical_calls_of_one_run_are_separate_samples(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    first, second, more = (in_a_run(*[lambda: s(0)] * n) for n in (3, 3, 5))
    assert (first, second, more) == ([1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 5])


def test_plain_calls_outside_of_a_run_share(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    assert [s(0).value, s(0).value] == [1, 1]


def test_identical_calls_at_once_are_separate_samples(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    with run(), ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(copy_context().run, s, 0) for _ in range(8)]
        assert sorted(future.result().value for future in futures) == list(range(1, 9))


def test_a_run_inside_a_run_goes_on_with_its_samples(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    with run():
        assert s(0).value == 1
        with run():
            assert s(0).value == 2
        assert s(0).value == 3


def test_poll_loop_over_unchanged_state(w: World) -> None:
    left = [4, 3, 2, 1, 0]

    @musubito_step(STOCHASTIC, name="poll")
    def poll(x: int) -> int:
        w.count("poll")
        return left.pop(0)

    def loop() -> list[int]:
        seen: list[int] = []
        with run():
            while len(seen) < 9 and (not seen or seen[-1]):
                seen.append(poll(0).value)
        return seen

    assert [loop(), loop()] == [[4, 3, 2, 1, 0]] * 2
    assert w.ran["poll"] == 5


def test_samples_are_counted_across_parents_where_they_are_reused_across_parents(w: World) -> None:
    policy = StepConfiguration(step_type=StepType.STOCHASTIC, allow_cross_parent_reuse=True)

    @musubito_step(policy, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    p, q = parent("P", 1), parent("Q", 2)
    assert in_a_run(lambda: under([p], s, 0), lambda: under([q], s, 0)) == [1, 2]


def test_sample_inside_a_replayed_step(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        return s(0).value

    in_a_run(lambda: o(0))
    assert in_a_run(lambda: o(0), lambda: s(0)) == [1, 2]


def test_sample_given_before_the_step_that_holds_it(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(name="o")
    def o(x: int) -> int:
        w.count("o")
        return s(0).value

    in_a_run(lambda: o(0))
    assert in_a_run(lambda: s(0), lambda: o(0)) == [1, 2]
    assert w.ran["o"] == 2


def test_failed_call_leaves_no_gap(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    @musubito_step(STOCHASTIC, name="o")
    def o(x: int) -> int:
        answer = s(0).value
        if w.count("o") == 1:
            raise Failing
        return answer

    assert in_a_run(lambda: o(0)) == in_a_run(lambda: o(0)) == [2]
    assert w.ran["o"] == 2


def test_a_forced_sample_takes_the_number_that_is_due(w: World) -> None:
    @musubito_step(STOCHASTIC, name="s")
    def s(x: int) -> int:
        return w.draw("s")

    in_a_run(lambda: s(0), lambda: s(0))
    assert in_a_run(lambda: forced(s)(0), lambda: s(0)) == [3, 2]
    assert in_a_run(lambda: s(0), lambda: s(0)) == [3, 2]


def test_numbers_count_as_given_before_a_copy_commits(w: World) -> None:
    """Two calls of one run that both find the one stored sample: only one of them may be given it."""

    @musubito_step(STOCHASTIC, name="s")
    def s(x: object) -> int:
        return w.draw("s")

    in_a_run(lambda: s(A))
    with run():
        context, late = copy_context(), []
        w.before_write(RecordReplay, lambda: late.append(context.run(s, B).value))
        assert s(B).value == 1
    assert late == [2]


def test_a_sample_is_given_once_under_two_policies(w: World) -> None:
    across = StepConfiguration(step_type=StepType.STOCHASTIC, allow_cross_parent_reuse=True)
    narrow, wide = (
        musubito_step(policy, name="draw")(draw)
        for policy in (STOCHASTIC, across)
        for draw in [lambda x: w.draw("draw")]
    )
    given = in_a_run(lambda: under([A], narrow, 0), lambda: under([A], wide, 0), lambda: under([A], narrow, 0))
    assert len(set(given)) == 3


def test_a_sample_that_answered_a_deterministic_step_is_given(w: World) -> None:
    certain, drawn = (
        musubito_step(policy, name="draw")(draw)
        for policy in (StepConfiguration(), STOCHASTIC)
        for draw in [lambda x: w.draw("draw")]
    )
    in_a_run(lambda: drawn(0))
    given = in_a_run(lambda: certain(0), lambda: drawn(0), lambda: certain(0))
    assert given[0] != given[1]
    assert given[0] == given[2]
