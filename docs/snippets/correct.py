from letter import draft

from musubito import MusubitoEngine, SQLiteStorage, run, use_musubito_engine

with MusubitoEngine(SQLiteStorage()) as engine, use_musubito_engine(engine), run("correct"):
    result = draft("bees")
    engine.override(result, "All is very well with the bees.", reason="good news", by="Ada")
