import re
from typing import TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph

from musubito_langgraph import musubito_graph

PROMPT = "Answer in one sentence."
ORDERS = {"17": "on its way", "18": "delivered", "19": "lost"}


class Model(BaseChatModel):  # stands in for a real one, such as ChatOpenAI(model="gpt-4o-mini")
    _llm_type = "example"

    def _generate(self, messages, *_, **__):
        print("  the model is asked")
        prompt, found = messages[0].text, messages[1].text
        text = f"Sorry! {found}." if "apologize" in prompt and "lost" in found else f"{found}."
        usage = {"input_tokens": 900, "output_tokens": 60, "total_tokens": 960}
        answer = AIMessage(text, usage_metadata=usage, response_metadata={"model_name": "gpt-4o-mini"})
        return ChatResult(generations=[ChatGeneration(message=answer)])


class State(TypedDict, total=False):
    question: str
    order: str
    found: str
    answer: str


@tool
def look_up(order: str) -> str:
    """Look an order up."""
    print(f"  order {order} is looked up")
    return f"Order {order} is {ORDERS[order]}"


def understand(state: State) -> State:
    return {"order": re.findall(r"\d+", state["question"])[0]}


def search(state: State) -> State:
    return {"found": look_up.invoke({"order": state["order"]})}


def answer(state: State) -> State:
    reply = Model().invoke([("system", PROMPT), ("user", state["found"])])
    return {"answer": reply.text}


builder = StateGraph(State).add_sequence([understand, search, answer]).add_edge(START, "understand")
graph = musubito_graph(builder.compile(name="helpdesk"))

if __name__ == "__main__":
    for order in ORDERS:
        print(graph.invoke({"question": f"Where is my order {order}?"})["answer"])
