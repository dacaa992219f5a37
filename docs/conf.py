"""Build the documentation: `make docs` writes it to `build/docs`, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from _ext.diagram import Diagram
from _ext.lists import LISTS, list_of

import musubito

project = "Musubito"
author = "Musubito"
project_copyright = "Musubito"
release = version = musubito.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
exclude_patterns = ["_ext"]
nitpicky = True
# Signatures name types that no page is about.
nitpick_ignore_regex = [("py:.*", ".*")]
# Docstrings mark code by single backticks.
default_role = "code"
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
smartquotes = False
highlight_language = "python"

html_theme = "furo"
html_title = f"Musubito {release}"
html_show_sourcelink = False
html_copy_source = False


def _skip(*event: object) -> bool | None:
    """Leave out the fields of a named tuple that have no text of their own."""
    return True if str(getattr(event[3], "__doc__", "")).startswith("Alias for field number") else None


MADE_BY_MUSUBITO = ("musubito.MusubitoStream", "musubito.RunRecord")
"""Classes that users are given and never construct."""


def _hide_constructor(*event: object) -> tuple[str, None] | None:
    """Show a class without its parameters if users never construct it."""
    return ("", None) if event[2] in MADE_BY_MUSUBITO else None


def setup(app: Sphinx) -> None:
    """Add what these pages need."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _hide_constructor)
    app.add_directive("diagram", Diagram)
    for name in LISTS:
        app.add_directive(name, list_of(name))
