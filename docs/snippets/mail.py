import sys

from musubito import StepConfiguration, StepType, current_idempotency_key, musubito_step


class Refused(Exception):
    """The server refused the mail, so nothing was sent."""


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, definite_failures=(Refused,)), name="mail")
def send(order: int, text: str) -> str:
    if "broken" in sys.argv:
        raise TimeoutError("no answer came")
    assert current_idempotency_key()  # hand it to the server, which then ignores a repetition
    print("sent:", text)
    return "accepted"


if __name__ == "__main__":
    print(send(int(sys.argv[1]), "Thank you!").value)
