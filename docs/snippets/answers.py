from musubito import musubito_step

PROMPT = "Answer briefly: "


@musubito_step
def ask(question: str) -> str:
    print("the model is asked")
    return f"an answer to '{PROMPT}{question}'"
