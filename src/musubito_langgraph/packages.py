"""What installed packages look at of the config.

Their code counts by name, and yet what a helper in one of them gives may be another user's: `get_config()` works
anywhere. So the modules of a package that speak of configs are read as the user's own code is (`sees`). LangChain and
LangGraph themselves only hand configs on.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

from musubito_langgraph.aliases import NAMES, aliases_in
from musubito_langgraph.sees import Sees, what_is_seen

__all__ = ["seen_by_package"]

FRAMEWORKS: Final = re.compile(r"(langchain|langgraph|langsmith|musubito)(_\w+)?")
USES: Final = re.compile(rb"\b(langchain|langgraph)")
SPEAKS: Final = re.compile(rb"\b(" + b"|".join(sorted(name.encode() for name in NAMES)) + rb")\b")


def seen_by_package(name: str) -> Sees:
    """What the modules of this package look at that are imported by now."""
    if FRAMEWORKS.fullmatch(name) or name in sys.stdlib_module_names:
        return Sees()
    files: dict[str, str] = {}
    for module, loaded in list(sys.modules.items()):
        if module == name or module.startswith(f"{name}."):
            file = getattr(loaded, "__file__", None)
            if isinstance(file, str) and file.endswith(".py"):
                files[module] = file
    return _seen_in(tuple(files.items()))


@cache
def _seen_in(files: tuple[tuple[str, str], ...]) -> Sees:
    texts: dict[str, str] = {}
    for module, file in files:
        try:
            text = Path(file).read_bytes()
        except OSError:  # in an archive, say: what it looks at cannot be told
            continue
        if USES.search(text) and SPEAKS.search(text):
            texts[module] = text.decode("utf-8", "replace")
    return what_is_seen(texts.values(), map(aliases_in, texts)) if texts else Sees()
