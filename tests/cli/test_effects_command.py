"""`musubito effects`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from musubito import (
    EffectOutcomeUnknown,
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    current_idempotency_key,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.payloads.encryption import require_cryptography
from tests.cli.conftest import Musubito
from tests.fresh import fresh

SENT: list[tuple[str, str | None]] = []


class Mail:
    """What the outside world does; it is no part of the code."""

    broken = True

    def __musubito_identity__(self) -> str:
        return "mail"

    def send(self, to: str) -> dict[str, str]:
        SENT.append((to, current_idempotency_key()))
        if self.broken:
            raise TimeoutError("no answer came")
        return {"accepted": to}


MAIL = Mail()


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="mail")
def mail(to: str) -> dict[str, str]:
    return MAIL.send(to)


def call(path: Path, to: str, key: bytes | None = None) -> str:
    """What becomes of a call."""
    with MusubitoEngine(SQLiteStorage(path), key=key) as engine, use_musubito_engine(engine):
        try:
            return json.dumps(mail(to).value)
        except (TimeoutError, EffectOutcomeUnknown) as error:
            return type(error).__name__


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SENT.clear()
    MAIL.broken = True
    (tmp_path / ".musubito").mkdir()
    path = fresh(tmp_path / ".musubito" / "musubito.db")
    assert call(path, "ada") == "TimeoutError"
    MAIL.broken = False
    assert call(path, "ada") == "EffectOutcomeUnknown"
    return path


def test_they_are_listed_with_what_to_do(musubito: Musubito, path: Path) -> None:
    told = musubito("effects").stdout
    assert re.search(r"^[0-9a-f]{10} +mail +\d", told, re.MULTILINE), told
    assert "effects settle" in told
    (effect,) = json.loads(musubito("effects", "--json").stdout)["effects"]
    assert (effect["operation"], effect["attempt"], effect["settled"]) == ("mail", 1, None)
    assert effect["arguments"] == {"to": "ada"}
    assert effect["idempotency_key"] == SENT[0][1]


def test_arguments_can_be_left_out(musubito: Musubito, path: Path) -> None:
    for command in ("effects",), ("show", "mail"), ("why", "mail"):
        for format_ in (), ("--json",):
            told = musubito(*command, "--no-inputs", *format_)
            assert (told.exit_code, "ada" in told.stdout) == (0, False), told


def test_arguments_that_are_hidden_or_not_recorded_are_not_shown(musubito: Musubito, path: Path) -> None:
    quiet = musubito_step(StepConfiguration(step_type="external_effect", record_inputs=False), name="quiet")(MAIL.send)
    with (
        MusubitoEngine(SQLiteStorage(path), redact=lambda _, given: {**given, "to": "XXX"}) as engine,
        use_musubito_engine(engine),
    ):
        for step in (mail, quiet):
            MAIL.broken = True
            with pytest.raises(TimeoutError):
                step("bob")
    told = musubito("effects").stdout
    assert re.search(r'mail .*\{to: "XXX"\}$', told, re.MULTILINE)
    assert re.search(r"quiet .*\(not stored\)$", told, re.MULTILINE)
    assert b"bob" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_one_that_never_happened_runs(musubito: Musubito, path: Path) -> None:
    told = musubito("effects", "settle", "mail", "--never-happened")
    assert re.fullmatch(r'mail [0-9a-f]{10} \{to: "ada"\}: its next call runs\.\n', told.stdout), told
    assert "never happened" in musubito("effects").stdout
    assert call(path, "ada") == '{"accepted": "ada"}'
    assert call(path, "ada") == '{"accepted": "ada"}'
    assert len(SENT) == 2
    assert musubito("effects").stdout == "No effect has an unknown outcome.\n"


def test_one_that_happened_gives_the_value_and_does_not_run(musubito: Musubito, path: Path) -> None:
    (effect,) = json.loads(musubito("effects", "--json").stdout)["effects"]
    told = musubito("effects", "settle", effect["idempotency_key"], "--happened", '{"accepted": "by phone"}', "--json")
    assert json.loads(told.stdout)["effect"]["settled"] == "happened"
    assert [call(path, "ada"), call(path, "ada")] == ['{"accepted": "by phone"}'] * 2
    assert len(SENT) == 1
    assert musubito("effects", "settle", "mail", "--never-happened").exit_code == 2


def test_one_that_is_settled_is_in_doubt_no_more(musubito: Musubito, path: Path) -> None:
    assert musubito("doctor").exit_code == 1
    for how, settled, then in (
        (("--happened", "1"), "settled as happened", "returns the given value"),
        (("--never-happened",), "settled as never happened", "runs"),
    ):
        musubito("effects", "settle", "mail", *how)
        for command in ("show", "why"):
            told = " ".join(musubito(command, "mail").stdout.split())
            assert f"{settled}: its next call {then}" in told
            assert "--undo" in told
            assert "in doubt" not in told
        health = musubito("doctor")
        assert health.exit_code == 0
        assert "none with unknown outcome, 1 settled and not called since" in health.stdout
        musubito("effects", "settle", "mail", "--undo")


def test_the_call_of_one_that_happened_did_not_run(musubito: Musubito, path: Path) -> None:
    musubito("effects", "settle", "mail", "--happened", "1")
    assert call(path, "ada") == "1"
    (line,) = json.loads(musubito("show", "last", "--json").stdout)["calls"]
    assert (line["outcome"], line["reason"]) == ("replayed", "effect happened")
    assert call(path, "ada") == "1"
    assert "did not run: its last attempt was confirmed as done" in musubito("why", "mail").stdout
    assert re.search(r"^settled +\d.*, as happened: it did not run$", musubito("show", "mail").stdout, re.MULTILINE)


def test_the_call_of_one_that_never_happened_says_so(musubito: Musubito, path: Path) -> None:
    musubito("effects", "settle", "mail", "--never-happened")
    call(path, "ada")
    (line,) = json.loads(musubito("show", "last", "--json").stdout)["calls"]
    assert (line["outcome"], line["reason"]) == ("ran", "effect never happened")
    assert "ran: its last attempt was confirmed as not done" in musubito("why", "mail").stdout
    assert re.search(r"^ran +\d", musubito("show", "mail").stdout, re.MULTILINE)


def test_what_was_used_is_not_undone(musubito: Musubito, path: Path) -> None:
    (effect,) = json.loads(musubito("effects", "--json").stdout)["effects"]
    musubito("effects", "settle", "mail", "--happened", "1")
    call(path, "ada")
    for name in ("mail", effect["effect_key"][:12]):
        undone = musubito("effects", "settle", name, "--undo")
        assert undone.exit_code == 2
        assert "its next call has already used the answer" in undone.stderr
    unknown = musubito("effects", "settle", "nobody", "--undo")
    assert "no effect whose outcome is unknown is called 'nobody'" in unknown.stderr


def test_a_later_word_needs_an_undo_and_another_effect_stays_in_doubt(musubito: Musubito, path: Path) -> None:
    MAIL.broken = True
    assert call(path, "bob") == "TimeoutError"
    MAIL.broken = False
    several = musubito("effects", "settle", "mail", "--never-happened")
    assert (several.exit_code, "several" in several.stderr) == (2, True)
    assert '{to: "ada"}; ' in several.stderr
    assert '{to: "bob"}' in several.stderr
    ada, _ = json.loads(musubito("effects", "--json").stdout)["effects"]
    musubito("effects", "settle", ada["effect_key"][:12], "--never-happened")
    again = musubito("effects", "settle", ada["effect_key"][:12], "--happened", "1")
    assert again.exit_code == 2
    assert re.search(r"it is already marked as never happened.*'musubito effects settle \w+ --undo'", again.stderr)
    undone = musubito("effects", "settle", ada["effect_key"][:12], "--undo")
    assert undone.stdout.endswith("its outcome is unknown again.\n")
    assert musubito("effects", "settle", ada["effect_key"][:12], "--undo").exit_code == 2
    assert call(path, "ada") == "EffectOutcomeUnknown"
    musubito("effects", "settle", ada["effect_key"][:12], "--happened", "1")
    assert (call(path, "ada"), call(path, "bob")) == ("1", "EffectOutcomeUnknown")


def test_what_was_found_out_of_one_attempt_says_nothing_of_the_next(musubito: Musubito, path: Path) -> None:
    musubito("effects", "settle", "mail", "--never-happened")
    MAIL.broken = True
    assert [call(path, "ada"), call(path, "ada")] == ["TimeoutError", "EffectOutcomeUnknown"]
    (effect,) = json.loads(musubito("effects", "--json").stdout)["effects"]
    assert (effect["attempt"], effect["settled"]) == (2, None)


def test_the_value_is_sealed_where_the_namespace_is_encrypted(musubito: Musubito, tmp_path: Path, path: Path) -> None:
    require_cryptography()
    key, sealed = tmp_path / "key", fresh(tmp_path / "sealed.db")
    key.write_bytes(b"k" * 32)
    MAIL.broken = True
    assert call(sealed, "ada", b"k" * 32) == "TimeoutError"
    assert b"ada" not in b"".join(file.read_bytes() for file in tmp_path.glob("sealed.db*"))
    assert "ada" not in musubito("--db", str(sealed), "effects").stdout
    assert '{to: "ada"}' in musubito("--db", str(sealed), "effects", MUSUBITO_KEY_FILE=str(key)).stdout
    without = musubito("--db", str(sealed), "effects", "settle", "mail", "--happened", '"the secret"')
    assert (without.exit_code, "key" in without.stderr) == (2, True)
    told = musubito(
        *("--db", str(sealed), "effects", "settle", "mail", "--happened", '"the secret"'), MUSUBITO_KEY_FILE=str(key)
    )
    assert told.exit_code == 0, told.stderr
    assert b"the secret" not in b"".join(file.read_bytes() for file in tmp_path.glob("sealed.db*"))
    assert call(sealed, "ada", b"k" * 32) == '"the secret"'


def test_wrong_usage(musubito: Musubito, path: Path) -> None:
    for wrong, says in (
        (("mail",), "give one of"),
        (("mail", "--happened", "1", "--never-happened"), "give one of"),
        (("mail", "--happened", "accepted"), "takes JSON"),
        (("nobody", "--never-happened"), "no effect whose outcome is unknown"),
    ):
        told = musubito("effects", "settle", *wrong)
        assert (told.exit_code, says in told.stderr) == (2, True), told.stderr
    with run():
        pass
