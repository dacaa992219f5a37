"""A support agent: a model classifies a question, and another answer is drafted from a handbook."""

from __future__ import annotations

from pathlib import Path

from musubito import MusubitoResult, StepConfiguration, musubito_step, record_usage

HANDBOOK = Path(__file__).parent / "handbook.md"
PROMPT = "You answer customers politely."


def model(prompt: str, text: str) -> str:
    """Stand in for a client of a model, which costs time, money and a key."""
    print("the model is asked")
    record_usage(model="gpt-4o", input_tokens=len(prompt + text) // 4, output_tokens=40)
    return f"Dear customer, {text.splitlines()[-1]}"


@musubito_step
def passage(question: str) -> str:
    """Return the line of the handbook that shares most words with the question."""
    words = set(question.lower().strip("?").split())
    return max(HANDBOOK.read_text("utf-8").splitlines(), key=lambda line: len(words & set(line.lower().split())))


@musubito_step(StepConfiguration(step_type="stochastic"))
def draft(question: str, found: str) -> str:
    """Let the model answer from a passage."""
    return model(PROMPT, f"{question}\n{found}")


def answer(question: str) -> MusubitoResult[str]:
    """Answer a question of a customer."""
    return draft(question, passage(question).value)
