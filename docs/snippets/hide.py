from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine


def redact(operation: str, arguments: dict) -> dict:
    return {**arguments, "email": "(hidden)"} if "email" in arguments else arguments


@musubito_step(name="load")
def load(email: str, api_key: str) -> str:
    return "a profile"


@musubito_step(StepConfiguration(record_inputs=False), name="diagnose")
def diagnose(findings: str) -> str:
    return "healthy"


with MusubitoEngine(SQLiteStorage("work.db"), redact=redact) as engine, use_musubito_engine(engine):
    load("ada@example.org", api_key="not-a-real-key")
    diagnose("private findings")
