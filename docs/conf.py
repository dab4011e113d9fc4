"""The documentation's build: `sphinx-build -W --keep-going docs site`.

Sphinx, because the docstrings are numpydoc with its roles and link to each other through it; MyST, because pages are
written in Markdown; Furo, because it is light and dark, works on a phone, and loads nothing from elsewhere.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_tools"), str(Path(__file__).parents[1])]

import fastnn

project, author, copyright = "fastnn", "The fastnn developers", "2026, the fastnn developers"
version = release = fastnn.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "pages",
]
exclude_patterns = ["_tools", "results"]
html_theme = "furo"
html_title = "fastnn"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True
napoleon_preprocess_types = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
# Attributes of the same name in several classes, to which a bare word in a docstring does not refer.
suppress_warnings = ["ref.python"]
