from functools import partial

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.wrapper import WrapperModel

from musubito import StepConfiguration, musubito_step


@musubito_step(StepConfiguration(step_type="stochastic", inputs=("model", "asked", "tools", "settings")))
async def request(model, asked, tools, settings, send):
    return await send()


class Recorded(WrapperModel):
    async def request(self, messages, settings, parameters):
        asked = [
            (
                part.part_kind,
                getattr(part, "tool_name", ""),
                getattr(part, "args", None),
                getattr(part, "content", None),
            )
            for message in messages
            for part in message.parts
        ]
        asked.append([getattr(message, "instructions", None) for message in messages])
        tools = [(tool.name, tool.description, tool.parameters_json_schema) for tool in parameters.function_tools]
        send = partial(self.wrapped.request, messages, settings, parameters)
        return (await request(self.model_name, asked, tools, settings, send)).value


def answer(messages, _):  # stands in for a real model, such as OpenAIChatModel("gpt-5-mini")
    print("the model is asked")
    part = messages[-1].parts[-1]
    done = part.part_kind == "tool-return"
    return ModelResponse([TextPart(f"It is {part.content}.") if done else ToolCallPart("open_ticket", {})])


agent = Agent(Recorded(FunctionModel(answer)), system_prompt="You help.")


@agent.tool_plain
def open_ticket() -> str:
    """Open a ticket."""
    print("a ticket is opened")
    return "ticket 7"


print(agent.run_sync("My printer burns.").output)
