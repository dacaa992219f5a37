from musubito import StepConfiguration, musubito_merge, musubito_step, run


@musubito_step
def fetch(topic: str) -> str:
    print("fetch runs")
    return f"facts about {topic}"


@musubito_step(StepConfiguration(step_type="stochastic"))
def write(facts: str) -> str:
    print("write runs")
    return f"A text with {facts}."


with run("plain") as record:
    facts = fetch("knots")
    with musubito_merge(facts):  # the parents of the calls inside
        text = write(facts.value)

print(text.value)
for call in record.calls:
    print(call.operation, call.outcome, call.reason.value)
