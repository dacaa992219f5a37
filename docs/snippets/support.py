from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from musubito_langgraph import musubito_graph


@tool
def open_ticket(problem: str) -> str:
    """Open a ticket."""
    print("a ticket is opened")
    return "ticket 7"


class Model(BaseChatModel):  # stands in for a real one, such as ChatOpenAI(model="gpt-5-mini")
    _llm_type = "example"

    def bind_tools(self, tools, **_):
        return self

    def _generate(self, messages, *_, **__):
        print("the model is asked")
        last = messages[-1]
        call = {"name": "open_ticket", "args": {"problem": last.text}, "id": "call_1"}
        answer = AIMessage(f"It is {last.text}.") if last.type == "tool" else AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


agent = musubito_graph(create_agent(Model(), [open_ticket], system_prompt="You help.", name="support"))
if __name__ == "__main__":
    print(agent.invoke({"messages": [("user", "My printer burns.")]})["messages"][-1].text)
