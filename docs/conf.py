"""Sphinx configuration: `make docs` builds docs/_build/index.html."""

project = "foveate"
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 2
