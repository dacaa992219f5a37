import logging

from musubito import musubito_step

handler = logging.StreamHandler()
named = {"musubito_operation": "-", "musubito_node_id": "-"}
text = "%(levelname)s %(musubito_operation)s %(musubito_node_id).12s %(message)s"
handler.setFormatter(logging.Formatter(text, defaults=named))
logging.getLogger("musubito").addHandler(handler)
logging.getLogger("musubito").setLevel(logging.DEBUG)


@musubito_step(name="ask")
def ask(question: str) -> str:
    return f"an answer to {question}"


ask("Why?")
ask("Why?")
