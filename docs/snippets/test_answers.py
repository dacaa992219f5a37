from answers import ask


def test_the_answer_names_the_question():
    assert "why?" in ask("why?").value
