"""The command that serves the page, in a process of its own."""

from __future__ import annotations

import html
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from musubito.lineage import Lineage
from musubito.web.watched_plan import WatchedPlan

EDITED = "from musubito import musubito_step\n\n@musubito_step\ndef greet() -> str:\n    return {text!r}\n"


@contextmanager
def served(db: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The page of a database, and the address that the command printed."""
    command = [sys.executable, "-m", "musubito", "--db", str(db), "ui", "--no-open", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=db.parent) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("Open ").strip()
        finally:
            process.kill()


def test_it_prints_an_address_serves_the_page_and_ends_at_once(engine, ran) -> None:
    ran(name="nightly")
    engine.flush()
    with served(engine.storage.db_path) as (process, address):
        browser = build_opener(HTTPCookieProcessor(CookieJar()))
        assert "nightly" in browser.open(address).read().decode()
        stream = browser.open(address.partition("?")[0] + "events")
        assert stream.readline().startswith(b"retry")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        assert time.monotonic() - began < 2
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_told(engine, ran) -> None:
    ran()
    engine.flush()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "musubito", "--db", str(engine.storage.db_path), "ui", "--no-open"]
        done = subprocess.run(
            [*command, "--port", str(taken.getsockname()[1])], check=False, capture_output=True, text=True
        )
    assert done.returncode == 2
    assert "--port 0 takes any" in done.stderr


def test_without_a_database_nothing_is_served(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "musubito", "--db", str(tmp_path / "none.db"), "ui", "--no-open"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no database at" in done.stderr
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2"])
def test_a_missing_package_is_named_with_the_extra(engine, package: str) -> None:
    block = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['musubito', *sys.argv[1:]]; "
        "from musubito.cli import main; main()"
    )
    command = [sys.executable, "-c", block, "--db", str(engine.storage.db_path), "ui", "--no-open"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"the page needs {package}: pip install 'musubito[web]'" in done.stderr


def test_the_plan_follows_the_code_as_it_is_edited(engine, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(EDITED.format(text="hello"))
    db = str(engine.storage.db_path)
    code = "import sys; sys.path.insert(0, ''); import program; program.greet()"
    environment = {"MUSUBITO_URL": f"sqlite:///{db}", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    with served(engine.storage.db_path, "program.py:greet", "--args", "[]") as (_, address):
        browser = build_opener(HTTPCookieProcessor(CookieJar()))
        browser.open(address)
        plan = address.partition("?")[0] + "plan"
        page = eventually(browser, plan, "would be replayed")
        assert "1 would be replayed" in page
        command = html.unescape(page.partition("<code")[2].partition(">")[2].partition("</code>")[0])
        assert command == f"musubito plan program.py:greet --args '[]' --db {db}"
        program.write_text(EDITED.format(text="good morning"))
        assert "its code changed" in eventually(browser, plan, "its code changed")
        program.write_text("def broken(:\n")
        assert 'role="alert"' in eventually(browser, plan, "alert")


def eventually(browser, address: str, words: str) -> str:
    page = ""
    until = time.monotonic() + 20
    while words not in page and time.monotonic() < until:
        page = browser.open(address).read().decode()
        time.sleep(0.1)
    return page


def test_a_lineage_tells_that_something_was_committed(site, ran) -> None:
    lineage: Lineage = site.lineage
    before = lineage.last_commit()
    assert lineage.last_commit() == before
    ran()
    assert lineage.last_commit() != before


def test_a_plan_is_made_whatever_the_code_prints_and_whatever_folder_goes(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "lib").mkdir(parents=True)
    (tmp_path / ".venv" / "lib" / "much.py").touch()
    (tmp_path / "program.py").write_text("import sys\nsys.stderr.buffer.write(b'\\xff')\nsys.exit(3)\n")
    plan = WatchedPlan(f"{tmp_path}/program.py:graph", [], ["--db", f"{tmp_path}/none.db"], {})
    try:
        until = time.monotonic() + 20
        while plan.now.number == 0 and time.monotonic() < until:
            time.sleep(0.05)
        assert plan.now.plan is None
        assert plan.now.says
        assert plan._files() == [(f"{tmp_path}/program.py", (tmp_path / "program.py").stat().st_mtime_ns)]
        shutil.rmtree(tmp_path)
        assert plan._files() == []
    finally:
        plan.close()


def test_the_url_of_the_store_is_in_no_argument_of_the_plan_s_process(engine, ran, tmp_path: Path) -> None:
    """Other users of the machine can read arguments, and a URL may hold a password."""
    ran()
    engine.flush()
    url, found = f"sqlite:///{engine.storage.db_path}", tmp_path / "found.json"
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys\n"
        f"json.dump([sys.orig_argv, os.environ['MUSUBITO_URL']], open({str(found)!r}, 'w'))\n" + EDITED.format(text="a")
    )
    command = [sys.executable, "-m", "musubito", "--url", url, "ui", "--no-open", "--port", "0", f"{program}:greet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            until = time.monotonic() + 30
            while not (found.exists() and found.read_text().endswith("]")) and time.monotonic() < until:
                time.sleep(0.05)
            arguments, told = json.loads(found.read_text())
        finally:
            process.kill()
    assert told == url
    assert not any(str(engine.storage.db_path) in argument for argument in arguments)
