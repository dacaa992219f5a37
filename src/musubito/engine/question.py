"""What a recorded test keeps of a call that ended with a question to a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Question:
    """A question for which a framework interrupted a call. A replay asks it again.

    `schema` is the schema of the answers, if the call gave one. `done` holds what the call did before it asked.
    """

    asked: Any
    schema: Any
    done: Any
