"""What is shown of code that differs."""

from __future__ import annotations

from musubito.code.value_texts import value_text
from musubito.engine.code_diff import changed_code

SETTINGS = {
    "output_language": "English",
    "max_debate_rounds": 1,
    "news_article_limit": 20,
    "queries": ["rates and inflation", "geopolitical risk and trade", "commodities and energy"],
}


def diff(before: object, after: object) -> list[str]:
    """Return the lines of the diff of a constant, without its head."""
    texts = [value_text("app.SETTINGS", value, lambda _: None) for value in (before, after)]
    (changed,) = changed_code({"app.SETTINGS": (b"1", texts[0])}, {"app.SETTINGS": (b"2", texts[1])})
    return [line for line in changed.diff.splitlines()[2:] if line[0] in "+-"]


def test_only_the_entries_of_a_long_constant_that_differ_are_shown() -> None:
    assert diff(SETTINGS, SETTINGS | {"news_article_limit": 30}) == [
        "-    'news_article_limit': 20,",
        "+    'news_article_limit': 30,",
    ]
    assert "+    'another': True," in diff(SETTINGS, SETTINGS | {"another": True})
    assert not any("news_article_limit" in line for line in diff(SETTINGS, SETTINGS | {"another": True}))


def test_a_short_constant_is_shown_as_it_is_written() -> None:
    assert diff({"a": 1}, {"a": 2}) == ["-{'a': 1}", "+{'a': 2}"]


def test_a_long_text_that_is_no_plain_data_is_shown_as_it_is_written() -> None:
    text = f"[object at {'x' * 200}]"
    assert diff(text, f"{text}!") == [f"-{text}", f"+{text}!"]
