"""The console of all commands, which escapes foreign text."""

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from distdl.core.text import printable_lines

SHORTEST = 20
"""Minimum width in characters to which a text is wrapped."""


class PlainConsole(Console):
    """A console without markup, emoji codes and colored numbers, which escapes control characters.

    File names, class names and messages of other packages may contain brackets, escape sequences, and characters that
    the terminal's encoding lacks.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Print rows of texts in columns, with the last one wrapped to the width of the terminal (or $COLUMNS).

        Lines to a file or a pipe are not wrapped, so that programs can read them.
        """
        fits = self.is_terminal or "COLUMNS" in os.environ
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
        for *cells, text in rows:
            start = "".join(f"{cell:<{width}}  " for cell, width in zip(cells, widths, strict=True))
            room = self.width - len(start)
            lines = textwrap.wrap(text, room, break_on_hyphens=False) if fits and room >= SHORTEST else [text]
            self.print((start + f"\n{' ' * len(start)}".join(lines)).rstrip(), soft_wrap=True)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of `renderable`: control codes of rich unchanged, text escaped."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                text = printable_lines(segment.text)
                yield Segment(text.encode(self.encoding, "backslashreplace").decode(self.encoding), segment.style)
