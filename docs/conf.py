"""Configuration of the site that `make docs` builds with Sphinx.

The source folder is the repository's root, so that a page can link to benchmarks/results, README.md or ARCHITECTURE.md
by the same relative path on the site and in a repository browser.
"""

import dataclasses
import re
import typing
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.ext import napoleon

ROOT = Path(__file__).resolve().parents[1]

project = "distdl"
copyright = "the distdl authors, Apache-2.0"
release = re.findall(r'__version__ = "(.+)"', (ROOT / "distdl/__init__.py").read_text(encoding="utf-8"))[0]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "benchmarks/results/*.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"]
include_patterns += ["UPGRADING.md"]
exclude_patterns = [".*", "build", "runs", "tests", "distdl"]
suppress_warnings = ["docutils"]
"""Formatting of docstrings, which are plain text. Broken links and unlisted pages are other kinds of warnings."""

html_theme = "furo"
html_title = f"distdl {release}"
html_extra_path = ["site"]
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

toc_object_entries_show_parents = "hide"

default_role = "code"  # docstrings mark code with single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"


def setup(app: Sphinx) -> None:
    """Register the changes to what autodoc reads."""
    from distdl.core import config

    for cls in vars(config).values():
        if dataclasses.is_dataclass(cls):  # show float, not Annotated[float, FieldInfo(...)]
            cls.__annotations__ = typing.get_type_hints(cls)
    app.connect("autodoc-process-docstring", convert_sections)


def convert_sections(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Convert the sections "Args:", "Returns:" and "Raises:".

    The extension napoleon also converts docstrings of attributes, and reads the text before a colon as a type.
    """
    if what in ("function", "method", "class", "exception", "module"):
        settings = napoleon.Config()
        lines[:] = napoleon.GoogleDocstring(lines, settings, app, what, name, obj, options).lines()
