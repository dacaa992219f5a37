from musubito import MusubitoResult, StepConfiguration, musubito_step, run


@musubito_step(StepConfiguration(step_type="stochastic"), name="draft")
def draft(topic: str) -> str:
    print("draft runs")
    return f"All is wel with the {topic}."


@musubito_step(name="letter")
def letter(text: MusubitoResult[str]) -> dict[str, str]:
    print("letter runs")
    return {"subject": "News", "body": f"Dear members, {text.value}"}


if __name__ == "__main__":
    with run("newsletter"):
        print(letter(draft("bees")).value["body"])
