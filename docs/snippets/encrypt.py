import sys

from musubito import MusubitoEngine, SQLiteStorage, WrongKey, musubito_step, use_musubito_engine

KEYS = {"tenant-a": bytes.fromhex(sys.argv[1] * 32), "default": None}  # from a key store; None: not encrypted


@musubito_step
def summarise(text: str) -> str:
    print("summarise runs")
    return text.upper()


with MusubitoEngine(SQLiteStorage("work.db"), namespace="tenant-a", key=KEYS) as engine, use_musubito_engine(engine):
    try:
        print(summarise("a secret").value)
    except WrongKey as error:
        print("WrongKey:", error)
