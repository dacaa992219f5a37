import pytest
from answers import ask


@pytest.mark.musubito
def test_the_answer_names_the_question():
    assert "why?" in ask("why?").value
