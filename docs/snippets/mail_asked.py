from musubito import EffectHappened, EffectNeverHappened, StepConfiguration, musubito_step

SENT: dict[str, str] = {}  # in place of the server's own list, by idempotency key


def look_up(key: str) -> EffectHappened | EffectNeverHappened:
    print("the server is asked")
    return EffectHappened(SENT[key]) if key in SENT else EffectNeverHappened()


@musubito_step(StepConfiguration(step_type="external_effect", on_unknown=look_up), name="mail")
def send(order: int, text: str) -> str:
    print("sent:", text)
    return "accepted"


print(send(2, "Thank you!").value)
