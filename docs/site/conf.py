"""Settings of the site; ``make docs`` builds it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FunctionType

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[2]))

import pkpd

# tutorials call the command of the environment that builds the site
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

project = "pkpd"
author = "The pkpd authors"
project_copyright = author
version = release = pkpd.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docs.site.mathml",
]
exclude_patterns = [
    ".doctrees",
    "files",
    *(f"tutorials/{name}" for name in ("fits", "models", "benchmarks", "build")),
]
default_role = "py:obj"

# tutorials are executed, and an error in one is an error of the build
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_merge_streams = True

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 90

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "pkpd"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "pkpd"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "navigation_with_keys": False,
}
html_sidebars = {"index": [], "changelog": []}


def _skip(app: object, what: str, name: str, value: object, skip: bool, options: object) -> bool:
    """Leave out fields that a class describes itself: of named tuples, and defaults."""
    del app, what, options
    if type(value).__name__ == "_tuplegetter":
        return True
    return skip or (isinstance(value, FunctionType) and value.__name__ != name)


def setup(app: Sphinx) -> None:
    """Register what the settings cannot say."""
    app.connect("autodoc-skip-member", _skip)
    app.add_lexer("csv", TextLexer)
