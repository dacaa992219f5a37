"""Find texts in stored code that read like prompts, with secrets hidden."""

from __future__ import annotations

import textwrap
from typing import Final

from musubito.code.syntax.written_texts import texts_written_in
from musubito.values.redaction import without_secrets_in

WORDS: Final = 4
"""The fewest words of a prompt: a shorter text is a label or a separator."""


def prompts_in(text: str) -> list[str]:
    """Return the texts in a part of code that may be prompts, with secrets hidden.

    The part is a function, a class, or the text of a value. Docstrings, texts of errors,
    what is printed and texts of few words are left out. The fields of an f-string stand as they do in the code.
    """
    texts = texts_written_in(textwrap.dedent(text).replace("<locals>.", ""))
    if texts is None:
        texts = [text]
    return [without_secrets_in(prompt) for prompt in dict.fromkeys(texts) if len(prompt.split()) >= WORDS]
