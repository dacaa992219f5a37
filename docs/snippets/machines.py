from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from musubito import MusubitoEngine, musubito_step, use_musubito_engine


@musubito_step(name="fetch")
def fetch(topic: str) -> str:
    return f"facts about {topic}"


def work(engine: MusubitoEngine, topic: str) -> str:
    with use_musubito_engine(engine):
        return fetch(topic).value


if __name__ == "__main__":
    engine = MusubitoEngine.from_url("postgresql://worker@db.example/work")
    topics = ["knots", "ships"] * 4
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as workers:
        print(len(list(workers.map(work, [engine] * len(topics), topics))), "answers")
