import sys
from pathlib import Path

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine


@musubito_step
def summarise(text: str) -> str:
    print("summarise runs")
    return text.upper()


key = Path(sys.argv[1]).read_bytes()
with MusubitoEngine(SQLiteStorage("work.db"), namespace="tenant-a", key=key) as engine, use_musubito_engine(engine):
    print(summarise("a secret").value)
