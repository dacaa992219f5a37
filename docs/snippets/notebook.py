# %%
import time

from musubito import musubito_step, run


@musubito_step
def fetch(topic: str) -> str:
    time.sleep(0.2)  # where a model is called
    return f"facts about {topic}"


@musubito_step
def write(topics: list[str]) -> str:
    return " ".join(fetch(topic).value for topic in topics)


# %%
fetch("knots")

# %%
with run("nightly") as record:
    write(["knots", "ropes"])
record
