import httpx
from openai import OpenAI

from musubito import StepConfiguration, musubito_step, record_usage


def served(_: httpx.Request) -> httpx.Response:  # stands in for the service
    print("the model is asked")
    message = {"role": "assistant", "content": "A short answer."}
    usage = {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return httpx.Response(200, json={"id": "1", "model": "gpt-5-mini", "choices": [choice], "usage": usage})


client = OpenAI(api_key="any", http_client=httpx.Client(transport=httpx.MockTransport(served)))


@musubito_step(StepConfiguration(step_type="stochastic"))
def ask(model: str, messages: list[dict[str, str]]) -> str:
    answer = client.chat.completions.create(model=model, messages=messages)
    record_usage(
        input_tokens=answer.usage.prompt_tokens, output_tokens=answer.usage.completion_tokens, model=answer.model
    )
    return answer.choices[0].message.content


print(ask("gpt-5-mini", [{"role": "user", "content": "What is a knot?"}]).value)
