import pytest

from musubito import StepConfiguration, musubito_step


@musubito_step(StepConfiguration(step_type="stochastic"))
def draft(topic: str, author: str) -> str:
    return f"{topic}, a draft"


@musubito_step(StepConfiguration(step_type="external_effect"))
def publish(text: str) -> str:
    return f"published: {text}"


def is_alike(recorded: str, new: str) -> bool:
    return recorded.split(",", maxsplit=1)[0] == new.split(",", maxsplit=1)[0]


@pytest.fixture
def musubito_scrub():
    return lambda text: text.replace("Ada Lovelace", "A. NAME")


@pytest.mark.musubito(compare=is_alike, allow_effects=True)
def test_a_draft_is_published():
    assert publish(draft("Knots", "Ada Lovelace").value).value.startswith("published: Knots")
