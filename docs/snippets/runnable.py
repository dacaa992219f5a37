from langchain_core.runnables import RunnableLambda

from musubito_langgraph import musubito_runnable


def shout(text: str) -> str:
    print("shout runs")
    return text.upper()


model = musubito_runnable(RunnableLambda(shout))
print(model.invoke("knots"))
print(model.batch(["knots", "ships"]))
