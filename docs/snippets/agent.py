from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from musubito import StepConfiguration, StepType, run
from musubito_langgraph import musubito_graph


class Model(GenericFakeChatModel):  # in place of a real model
    def bind_tools(self, tools, **kwargs):
        return self.bind(**kwargs)


@tool
def send_mail(text: str) -> str:
    """Send a mail."""
    print("sent:", text)
    return "done"


call = {"name": "send_mail", "args": {"text": "hello"}, "id": "call_1"}
model = Model(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("It is sent.")]))
agent = musubito_graph(
    create_agent(model, [send_mail], name="clerk"),
    steps={"tools.send_mail": StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)},
    default=StepConfiguration(step_type=StepType.STOCHASTIC, ttl_seconds=86_400),
    ignore_config=("request_id",),
)

with run("nightly") as record:
    agent.invoke({"messages": [("user", "Write to her.")]}, {"configurable": {"request_id": "r-17"}})
for made in record.calls:
    print(made.operation, made.outcome, made.reason.value)
