"""The console of every verb, to which text from outside is only text."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from distdl.core.text import printable_lines


class PlainConsole(Console):
    """A console without markup, emoji codes and coloured numbers, that escapes what its terminal must not receive.

    Names of files and classes and messages of other packages may hold brackets, escape sequences, and characters that
    the terminal's encoding lacks.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of `renderable`: rich's own control codes as they are, text escaped."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                text = printable_lines(segment.text)
                yield Segment(text.encode(self.encoding, "backslashreplace").decode(self.encoding), segment.style)
