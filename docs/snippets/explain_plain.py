from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine


@musubito_step
def summarise(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


with MusubitoEngine(SQLiteStorage("work.db")) as engine, use_musubito_engine(engine):
    summarise("Knots hold ropes together.", words=2)
    print(engine.explain(summarise, "Knots hold ropes together.", words=2).decision.reason)
    print(engine.explain(summarise, "Knots hold ropes together.", words=3))
    engine.invalidate(summarise)  # its results are never replayed again
    print(engine.explain(summarise, "Knots hold ropes together.", words=2).decision.reason)
