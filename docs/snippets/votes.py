from collections import Counter

from musubito import StepConfiguration, musubito_step, run

ANSWERS = iter(["yes", "no", "yes", "yes"])  # in place of a model


@musubito_step(StepConfiguration(step_type="stochastic"))
def ask(question: str) -> str:
    print("the model is asked")
    return next(ANSWERS)


with run("three votes"):
    print(Counter(ask("Is it safe?").value for _ in range(3)))
with run("four votes"):
    print(Counter(ask("Is it safe?").value for _ in range(4)))
