from musubito import MusubitoEngine, musubito_step, use_musubito_engine


@musubito_step
def fetch(topic: str) -> str:
    return f"facts about {topic}"


with MusubitoEngine.from_url("sqlite:///work.db", keep="30d,2GB") as engine, use_musubito_engine(engine):
    print(fetch("knots").value)
