"""Tests that are marked replay their steps from cassettes, and fail where a cassette does not answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from musubito.engine.model_rates import rate_of
from tests.recorded.conftest import SETTINGS, Run, cassette, cassette_file, edit, last_line, recorded_long_ago, runs

pytest_plugins = ["pytester"]


def test_recorded_once_and_replayed_without_a_model(project: Path, play: Run, no_sockets: None) -> None:
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(project) == 1
    result = play("--musubito=replay")
    result.assert_outcomes(passed=1)
    assert runs(project) == 0
    amount = "" if rate_of("gpt-4o") is None else r" \(\$0\.0045\)"
    assert re.fullmatch(rf"musubito: 1 replayed, 0 ran, 1,200 tokens{amount}( and [\d.]+ ms)? saved", last_line(result))


def test_without_a_mode_the_test_runs_and_no_file_is_read_or_written(project: Path, play: Run) -> None:
    for _ in range(2):
        result = play()
        result.assert_outcomes(passed=1)
        assert not any(line.startswith("musubito") for line in result.outlines)
    assert runs(project) == 2
    assert not (project / "tests" / "__musubito__").exists()
    assert not (project / ".musubito").exists()


def test_a_test_that_is_not_marked_is_left_alone(project: Path, play: Run) -> None:
    edit(project / "tests" / "test_it.py", "@pytest.mark.musubito", "")
    play("--musubito=replay").assert_outcomes(passed=1)
    assert runs(project) == 1
    assert (project / ".musubito" / "musubito.db").exists()


def test_an_edit_of_the_prompt_fails_and_shows_the_difference(project: Path, play: Run) -> None:
    play("--musubito=record")
    edit(project / "answers.py", "briefly", "at length")
    runs(project)
    result = play("--musubito=replay")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "answers.ask was not replayed: its code changed: `answers.PROMPT`; nearest earlier call: "
            + cassette(project)["results"][0]["id"],
            "  -Answer briefly: *",
            "  +Answer at length: *",
            "Record it again:",
            "  pytest tests/test_it.py::test_it --musubito=refresh",
            "musubito: 0 replayed, 0 ran, 1 missing",
        ]
    )
    assert runs(project) == 0
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(project) == 1
    play("--musubito=replay").assert_outcomes(passed=1)
    assert len(cassette(project)["results"]) == 2
    play("--musubito=refresh").assert_outcomes(passed=1)
    assert [result["output"] for result in cassette(project)["results"]] == ["an answer to 'Answer at length: why?'"]


def test_the_last_lines_of_the_screen_show_a_long_edit(project: Path, play: Run) -> None:
    long = "\\n".join(f"Rule {number}." for number in range(30))
    edit(project / "answers.py", "Answer briefly: ", long)
    play("--musubito=record")
    edit(project / "answers.py", "Rule", "Hint")
    lines = play("--musubito=replay").outlines[-12:]
    assert lines[0].startswith("answers.ask was not replayed: its code changed: `answers.PROMPT`")
    assert lines[1:6] == ["  -Rule 0.", "  -Rule 1.", "  +Hint 0.", "  +Hint 1.", "  … 56 lines more"]
    assert lines[6:8] == ["Record it again:", "  pytest tests/test_it.py::test_it --musubito=refresh"]


def test_another_input_fails_and_shows_the_field(project: Path, play: Run) -> None:
    test = project / "tests" / "test_it.py"
    edit(project / "answers.py", "def ask(question: str)", "def ask(question)")
    edit(test, 'ask("why?")', 'ask({"messages": [{"content": "Hi"}, {"content": "why?"}]})')
    play("--musubito=record").assert_outcomes(passed=1)
    edit(test, '"content": "why?"', '"content": "why? Tell!"')
    result = play("--musubito=replay")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['  $.question.messages[[]1].content: "why?" → "why? Tell!"'])


def test_a_miss_that_the_code_under_test_catches_fails_the_test(project: Path, play: Run) -> None:
    test = project / "tests" / "test_it.py"
    edit(test, 'assert "why?" in ask("why?").value', "try:\n        ask('other')\n    except Exception:\n        pass")
    result = play("--musubito=replay")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*answers.ask was not replayed: not recorded yet"])
    result.stdout.fnmatch_lines(["*The test has no cassette __musubito__/test_it/test_it.md."])
    assert runs(project) == 0


@pytest.mark.parametrize(
    "setting", ['run(mode="refresh")', 'run(mode="off")', "use_musubito_engine(None)", "switched_off()"]
)
def test_nothing_runs_whatever_mode_the_code_under_test_sets(project: Path, play: Run, setting: str) -> None:
    test = project / "tests" / "test_it.py"
    edit(
        test,
        "import pytest",
        "import contextlib\nimport os\nimport threading\n\nimport pytest\nfrom musubito import run, use_musubito_engine",
    )
    edit(
        test,
        "@pytest.mark.musubito",
        "@contextlib.contextmanager\ndef switched_off():\n    os.environ['MUSUBITO_MODE'] = 'off'\n"
        "    try:\n        yield\n    finally:\n        del os.environ['MUSUBITO_MODE']\n\n\n@pytest.mark.musubito",
    )
    edit(test, '    assert "why?" in', f"    with {setting}:\n        ")
    play("--musubito=replay").assert_outcomes(failed=1)
    assert runs(project) == 0
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(project) == 1
    play("--musubito=replay").assert_outcomes(passed=1)
    assert runs(project) == 0
    play().assert_outcomes(passed=1)
    assert runs(project) == 1


def test_off_is_off_again_after_a_recorded_test(project: Path, play: Run) -> None:
    test = project / "tests" / "test_it.py"
    test.write_text(
        test.read_text() + "\n\ndef test_plain():\n    from musubito import run\n"
        "    with run(mode='off'):\n        ask('why?')\n        ask('why?')\n"
    )
    play("--musubito=record").assert_outcomes(passed=2)
    assert runs(project) == 3
    play("--musubito=replay").assert_outcomes(passed=2)
    assert runs(project) == 2


@pytest.mark.parametrize("mode", ["record", "refresh"])
def test_what_the_code_under_test_only_replays_does_not_run(project: Path, play: Run, mode: str) -> None:
    test = project / "tests" / "test_it.py"
    edit(test, "import pytest", "import pytest\nfrom musubito import run")
    edit(test, '    assert "why?" in', '    with run(mode="replay_only"):\n        ')
    play(f"--musubito={mode}").assert_outcomes(failed=1)
    assert runs(project) == 0


def test_tests_in_classes_and_of_unittest(project: Path, play: Run) -> None:
    (project / "tests" / "test_it.py").write_text(
        "import unittest\nimport pytest\nfrom answers import ask\n\n\n"
        "@pytest.mark.musubito\nclass TestCase(unittest.TestCase):\n"
        "    def setUp(self):\n        ask('before')\n\n    def test_it(self):\n        ask('why?')\n\n\n"
        "@pytest.mark.musubito\nclass TestPlain:\n    def test_it(self):\n        ask('why?')\n"
    )
    play("--musubito=record").assert_outcomes(passed=2)
    assert len(cassette(project, "TestCase.test_it")["results"]) == 2
    assert len(cassette(project, "TestPlain.test_it")["results"]) == 1
    runs(project)
    play("--musubito=replay").assert_outcomes(passed=2)
    assert runs(project) == 0


def test_record_runs_what_is_missing_alone(project: Path, play: Run) -> None:
    play("--musubito=record")
    before = cassette(project)
    edit(project / "tests" / "test_it.py", 'ask("why?").value', 'ask("why?").value + ask("how?").value')
    runs(project)
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(project) == 1
    after = cassette(project)
    assert [result["input"] for result in after["results"]] == [{"question": "why?"}, {"question": "how?"}]
    assert after["results"][0] == before["results"][0]
    assert after["recorded_at"] == before["recorded_at"]


def test_a_refresh_with_equal_answers_leaves_the_file_as_it_was(project: Path, play: Run) -> None:
    play("--musubito=record")
    file = cassette_file(project)
    recorded_long_ago(file)
    before = file.read_bytes()
    runs(project)
    play("--musubito=refresh").assert_outcomes(passed=1)
    assert runs(project) == 1
    assert file.read_bytes() == before


def test_a_refresh_drops_what_is_unused(project: Path, play: Run) -> None:
    play("--musubito=record")
    edit(project / "tests" / "test_it.py", 'ask("why?")', 'ask("why? now")')
    play("--musubito=record")
    assert len(cassette(project)["results"]) == 2
    play("--musubito=refresh").assert_outcomes(passed=1)
    assert [result["input"] for result in cassette(project)["results"]] == [{"question": "why? now"}]


def test_a_refresh_removes_the_cassette_of_a_test_that_calls_no_step_any_more(project: Path, play: Run) -> None:
    play("--musubito=record")
    edit(project / "tests" / "test_it.py", 'assert "why?" in ask("why?").value', "assert ask")
    play("--musubito=record").assert_outcomes(passed=1)
    assert len(cassette(project)["results"]) == 1
    play("--musubito=refresh").assert_outcomes(passed=1)
    assert list((project / "tests" / "__musubito__" / "test_it").iterdir()) == []


def test_a_test_that_fails_leaves_its_cassette_as_it_was(project: Path, play: Run) -> None:
    play("--musubito=record")
    before = cassette(project)
    edit(project / "tests" / "test_it.py", 'assert "why?"', 'assert "no"')
    for mode in ("record", "refresh"):
        result = play(f"--musubito={mode}")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["Nothing was recorded, since the test failed."])
        assert cassette(project) == before


def test_what_fixtures_call_is_recorded(project: Path, play: Run) -> None:
    edit(
        project / "tests" / "test_it.py",
        "@pytest.mark.musubito",
        "@pytest.fixture(autouse=True)\ndef around():\n    ask('before')\n    yield\n    ask('after')\n\n\n"
        "@pytest.mark.musubito",
    )
    play("--musubito=record").assert_outcomes(passed=1)
    assert {result["input"]["question"] for result in cassette(project)["results"]} == {"before", "after", "why?"}
    play("--musubito=replay").assert_outcomes(passed=1)
    assert runs(project) == 3


def test_the_setting_of_the_session_holds_where_no_option_is_given(project: Path, play: Run) -> None:
    (project / "pytest.ini").write_text(SETTINGS + "musubito_mode = record\n")
    play().assert_outcomes(passed=1)
    assert cassette(project)["results"]
    play("--musubito=off").assert_outcomes(passed=1)
    assert runs(project) == 2
    (project / "pytest.ini").write_text(SETTINGS + "musubito_mode = sometimes\n")
    result = play()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*musubito_mode is one of off, replay, record, refresh, verify, not 'sometimes'"])


def test_a_time_to_live_counts_from_the_recording(project: Path, play: Run) -> None:
    edit(project / "answers.py", 'ignore_files=("ran.txt",)', 'ignore_files=("ran.txt",), ttl_seconds=60.0')
    edit(
        project / "answers.py",
        "    ran()\n    record_usage",
        "    return inner(question).value\n\n\n"
        '@musubito_step(StepConfiguration(ignore_files=("ran.txt",), ttl_seconds=60.0))\n'
        "def inner(question: str) -> str:\n    ran()\n    record_usage",
    )
    play("--musubito=record").assert_outcomes(passed=1)
    file = cassette_file(project)
    recorded_long_ago(file)
    runs(project)
    for mode in ("replay", "record"):
        play(f"--musubito={mode}").assert_outcomes(passed=1)
    assert runs(project) == 0
    assert {result.get("valid_for") for result in cassette(project)["results"]} == {60.0, None}


def test_each_test_has_a_store_of_its_own(project: Path, play: Run) -> None:
    with (project / "tests" / "test_it.py").open("a") as file:
        file.write(
            "\n\n@pytest.mark.musubito\n@pytest.mark.parametrize('who', ['Ada', 'ada', 'a/b'])\n"
            "def test_more(who, musubito_engine, tmp_path):\n"
            "    assert who in ask(who).value\n    assert musubito_engine.storage.db_path.parent == tmp_path\n"
        )
    play("--musubito=record").assert_outcomes(passed=4)
    files = {path.name.lower() for path in (project / "tests" / "__musubito__" / "test_it").iterdir()}
    assert len(files) == 4
    assert {"test_it.md", "test_more[ada].md"} <= files
    play("--musubito=replay").assert_outcomes(passed=4)
    assert runs(project) == 4


def test_verify_runs_again_and_compares(project: Path, play: Run) -> None:
    play("--musubito=record")
    runs(project)
    result = play("--musubito=verify")
    result.assert_outcomes(passed=1)
    assert last_line(result) == "musubito: 1 verified"
    assert runs(project) == 1


def test_an_answer_of_a_deterministic_step_that_differs_fails(project: Path, play: Run) -> None:
    edit(project / "answers.py", "    return f", "    import time\n    return str(time.time_ns()) + f")
    play("--musubito=record").assert_outcomes(passed=1)
    result = play("--musubito=verify")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["answers.ask (deterministic): answer differs from the recording:", '  $: "* → "*'])


def test_an_answer_of_a_stochastic_step_is_compared_or_reported(project: Path, play: Run) -> None:
    edit(project / "answers.py", "    return f", "    import time\n    return str(time.time_ns()) + f")
    edit(project / "answers.py", "StepConfiguration(", 'StepConfiguration(step_type="stochastic", ')
    play("--musubito=record").assert_outcomes(passed=1)
    before = cassette(project)
    result = play("--musubito=verify")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "musubito: Answers that differ from the recording:",
            "  tests/test_it.py::test_it: answers.ask (stochastic): answer differs*",
        ]
    )
    test = project / "tests" / "test_it.py"
    edit(test, "musubito\n", "musubito(compare=lambda recorded, new: recorded[-9:] == new[-9:])\n")
    result = play("--musubito=verify")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*Answers that differ*")
    edit(test, "recorded[-9:] == new[-9:]", "recorded == new")
    play("--musubito=verify").assert_outcomes(failed=1)
    assert cassette(project) == before


def test_verify_gives_later_steps_the_recorded_answer(project: Path, play: Run) -> None:
    edit(project / "answers.py", "    return f", "    import time\n    return str(time.time_ns()) + f")
    edit(project / "answers.py", "StepConfiguration(", 'StepConfiguration(step_type="stochastic", ')
    with (project / "answers.py").open("a") as file:
        file.write("\n\n@musubito_step\ndef shorten(text: str) -> str:\n    return text[-9:]\n")
    edit(project / "tests" / "test_it.py", "import ask", "import ask, shorten")
    edit(project / "tests" / "test_it.py", 'ask("why?").value', 'shorten(ask("why?").value).value')
    play("--musubito=record").assert_outcomes(passed=1)
    result = play("--musubito=verify")
    result.assert_outcomes(passed=1)
    assert last_line(result) == "musubito: 2 verified"
    result.stdout.no_fnmatch_line("*without a recorded answer*")


EFFECT = """

@musubito_step(StepConfiguration(step_type="external_effect"))
def mail(to: str) -> str:
    ran()
    return f"sent to {to}"
"""


@pytest.fixture
def with_mail(project: Path) -> Path:
    with (project / "answers.py").open("a") as file:
        file.write(EFFECT)
    edit(project / "tests" / "test_it.py", "import ask", "import mail")
    edit(
        project / "tests" / "test_it.py",
        'assert "why?" in ask("why?").value',
        'assert mail("Ada").value == "sent to Ada"',
    )
    return project


@pytest.mark.parametrize("mode", ["replay", "record", "refresh", "verify"])
def test_no_effect_takes_place_unless_it_is_allowed(with_mail: Path, play: Run, mode: str) -> None:
    result = play(f"--musubito={mode}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*answers.mail was not replayed: the effect has not taken place*allow_effects=True*",
            "To let its effects happen, mark the test with @pytest.mark.musubito(allow_effects=True). Then record it:",
        ]
    )
    if mode in ("record", "refresh"):
        result.stdout.no_fnmatch_line("*replay_only*")
    assert runs(with_mail) == 0


def with_failing_steps(project: Path) -> None:
    edit(project / "tests" / "test_it.py", "import pytest", "import pytest\nfrom answers import fails, outer")
    with (project / "answers.py").open("a") as file:
        file.write(
            "\n\n@musubito_step\ndef fails():\n    raise KeyError(0)\n"
            "\n\n@musubito_step\ndef outer():\n    try:\n        fails()\n    except KeyError:\n        return ask('why?')\n"
        )


def test_recording_fails_for_a_step_whose_error_the_test_handles(project: Path, play: Run) -> None:
    with_failing_steps(project)
    edit(
        project / "tests" / "test_it.py",
        'ask("why?").value',
        'ask("why?").value\n    with pytest.raises(KeyError):\n        fails()',
    )
    for mode in ("record", "refresh"):
        recorded = play(f"--musubito={mode}")
        recorded.assert_outcomes(failed=1)
        recorded.stdout.fnmatch_lines(
            ["The test cannot be replayed,*", "  answers.fails: it failed*", "    Let the step return *"]
        )
    # What was paid for is kept.
    assert [result["operation"] for result in cassette(project)["results"]] == ["answers.ask"]


def test_an_error_that_a_recorded_step_handles_keeps_nothing_from_being_replayed(project: Path, play: Run) -> None:
    with_failing_steps(project)
    edit(project / "tests" / "test_it.py", 'ask("why?").value', "outer().value.value")
    for mode in ("record", "replay"):
        play(f"--musubito={mode}").assert_outcomes(passed=1)


def test_a_step_that_fails_and_then_succeeds_is_replayed(project: Path, play: Run) -> None:
    edit(
        project / "answers.py",
        "    ran()\n",
        "    ran()\n    if len((HERE / 'ran.txt').read_text()) == 1:\n        raise KeyError\n",
    )
    edit(
        project / "tests" / "test_it.py",
        "    assert",
        "    try:\n        ask('why?')\n    except KeyError:\n        pass\n    assert",
    )
    for mode in ("record", "replay"):
        play(f"--musubito={mode}").assert_outcomes(passed=1)


def test_an_effect_that_is_allowed_takes_place_once_and_is_replayed(with_mail: Path, play: Run) -> None:
    edit(with_mail / "tests" / "test_it.py", "musubito\n", "musubito(allow_effects=True)\n")
    play("--musubito=record").assert_outcomes(passed=1)
    assert runs(with_mail) == 1
    for mode in ("replay", "record", "verify"):
        play(f"--musubito={mode}").assert_outcomes(passed=1)
    assert runs(with_mail) == 0


SERVED = """
from uuid import uuid4
from time import time_ns
from musubito import musubito_step


@musubito_step
def complete(question):
    return {"id": f"chatcmpl-{uuid4().hex}", "created": time_ns(), "usage": {"tokens": time_ns()}, "text": "Yes."}


@musubito_step
def shorten(completion):
    return completion["text"][:2]
"""


def test_a_refresh_keeps_an_answer_that_says_the_same(project: Path, play: Run) -> None:
    (project / "answers.py").write_text(SERVED)
    (project / "tests" / "test_it.py").write_text(
        "import pytest\nfrom answers import complete, shorten\n\n\n@pytest.mark.musubito\ndef test_it():\n"
        "    for _ in range(2):\n        assert shorten(complete('why?').value).value\n"
    )
    play("--musubito=record").assert_outcomes(passed=1)
    recorded_long_ago(cassette_file(project))
    before = cassette_file(project).read_bytes()
    play("--musubito=refresh").assert_outcomes(passed=1)
    assert cassette_file(project).read_bytes() == before
    edit(project / "answers.py", "Yes.", "No.")
    play("--musubito=refresh").assert_outcomes(passed=1)
    assert [result["output"] for result in cassette(project)["results"]][-1] == "No"
    assert cassette_file(project).read_bytes() != before


def test_an_effect_of_each_run_is_replayed_and_recorded_anew(with_mail: Path, play: Run) -> None:
    edit(with_mail / "answers.py", '"external_effect"', '"external_effect", once_per="run"')
    edit(with_mail / "tests" / "test_it.py", "musubito\n", "musubito(allow_effects=True)\n")
    for mode, taken in (("record", 1), ("replay", 0), ("verify", 0), ("record", 1), ("replay", 0)):
        play(f"--musubito={mode}").assert_outcomes(passed=1)
        assert runs(with_mail) == taken, mode


def test_async_tests_streams_and_threads(project: Path, play: Run) -> None:
    (project / "pytest.ini").write_text(SETTINGS + "asyncio_mode = auto\n")
    with (project / "answers.py").open("a") as file:
        file.write(
            "\n\n@musubito_step\nasync def later(x: int) -> int:\n    return ask(str(x)).value\n\n\n"
            "@musubito_step\ndef pieces(n: int):\n    ran()\n    yield from range(n)\n"
        )
    (project / "tests" / "test_it.py").write_text(
        "import pytest\nfrom concurrent.futures import ThreadPoolExecutor\nfrom answers import ask, later, pieces\n"
        "pytestmark = pytest.mark.musubito\n\n\n"
        "async def test_async():\n    assert '7' in (await later(7)).value\n\n\n"
        "def test_stream():\n    assert list(pieces(3)) == [0, 1, 2]\n\n\n"
        "def test_threads():\n"
        "    with ThreadPoolExecutor() as pool:\n"
        "        assert [result.value[-3:] for result in pool.map(ask, 'ab')] == [\" a'\", \" b'\"]\n"
    )
    play("--musubito=record").assert_outcomes(passed=3)
    assert runs(project) == 4
    play("--musubito=replay").assert_outcomes(passed=3)
    assert runs(project) == 0
    play("--musubito=verify").assert_outcomes(passed=3)


def test_recording_fails_for_an_output_that_cannot_be_stored(project: Path, play: Run) -> None:
    edit(project / "answers.py", "    return f", "    return object(), f")
    edit(project / "tests" / "test_it.py", 'assert "why?" in ask("why?").value', 'ask("why?")')
    result = play("--musubito=record")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["The test cannot be replayed,*", "  answers.ask: its output cannot be stored: *"])


def test_unused_cassettes_are_told(project: Path, play: Run) -> None:
    play("--musubito=record")
    edit(project / "tests" / "test_it.py", "def test_it", "def test_that")
    play("--musubito=record", "tests/test_it.py::test_that").stdout.no_fnmatch_line("*no test uses*")
    result = play("--musubito=replay")
    result.stdout.fnmatch_lines(["musubito: Files of cassettes that no test uses:", "  *test_it?test_it.md"])
    result = play("--musubito=replay", "-k", "nothing")
    result.stdout.fnmatch_lines(["  *test_it?test_it.md"])
    result.stdout.no_fnmatch_line("*test_that.md")


def test_cassettes_of_a_module_beside_the_tests_are_not_called_unused(project: Path, play: Run) -> None:
    (project / "tests" / "test_more.py").write_text((project / "tests" / "test_it.py").read_text())
    play("--musubito=record")
    play("--musubito=replay", "tests/test_it.py").stdout.no_fnmatch_line("*no test uses*")


def test_a_session_without_musubito_pays_little(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass\n")
    program = (
        "import sys, pytest\npytest.main(['-q', '-p', 'musubito_pytest', '-p', 'no:cacheprovider'])\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'musubito'])"
    )
    result = pytester.runpython_c(program)
    assert result.outlines[-1] == "[]"
