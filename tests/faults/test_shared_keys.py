"""However many processes, threads and tasks ask for a missing result at once, it is computed once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.children import finish, heard, log_of, program, start

WORKER = """
import json
import random
import uuid
from concurrent.futures import ThreadPoolExecutor


@musubito_step()
def value(n):
    log(n)
    time.sleep(0.002)
    # Nobody else can make the same one up.
    return uuid.uuid4().hex


@musubito_step()
async def avalue(n):
    log(n)
    await asyncio.sleep(0.002)
    return uuid.uuid4().hex


engine = MusubitoEngine(SQLiteStorage(DATABASE, busy_timeout=60))
use_musubito_engine(engine)
keys = list(range(int(sys.argv[2])))
random.Random(os.getpid()).shuffle(keys)
say("up")
while not os.path.exists(sys.argv[3]):
    time.sleep(0.001)
how = sys.argv[1]
if how == "plain":
    results = [value(n) for n in keys]
elif how == "threads":
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(value, keys))
else:

    async def main():
        return await asyncio.gather(*map(avalue, keys))

    results = asyncio.run(main())
say(json.dumps({str(n): result.value for n, result in zip(keys, results)}))
say(engine.faults)
engine.close()
"""


def share(tmp_path: Path, how: str, processes: int, keys: int) -> None:
    worker = program(tmp_path, WORKER)
    gate = tmp_path / "gate"
    running = [start(worker, how, keys, gate) for _ in range(processes)]
    assert [heard(process) for process in running] == ["up"] * processes
    gate.touch()
    answers = []
    for process in running:
        answer, faults = finish(process, timeout=120)
        assert faults == "0"
        answers.append(json.loads(answer))
    assert Counter(log_of(tmp_path)) == Counter({str(n): 1 for n in range(keys)})
    assert all(answer == answers[0] for answer in answers)
    assert len(set(answers[0].values())) == keys


@pytest.mark.parametrize("how", ["plain", "threads", "tasks"])
def test_eight_processes_on_the_same_hundred_keys(tmp_path, how):
    share(tmp_path, how, processes=8, keys=100)


@pytest.mark.soak
@pytest.mark.parametrize("how", ["plain", "threads", "tasks"])
def test_eight_processes_on_the_same_thousand_keys(tmp_path, how):
    share(tmp_path, how, processes=8, keys=1000)
