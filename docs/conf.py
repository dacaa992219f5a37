"""Build the documentation: `make docs` writes it to `build/docs`, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

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


def setup(app: object) -> None:
    """Add the directives of these pages."""
    app.add_directive("diagram", Diagram)
    for name in LISTS:
        app.add_directive(name, list_of(name))
