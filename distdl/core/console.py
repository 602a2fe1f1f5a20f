"""The console of all commands, which escapes foreign text."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from distdl.core.text import printable_lines


class PlainConsole(Console):
    """A console without markup, emoji codes and coloured numbers, which escapes control characters.

    File names, class names and messages of other packages may contain brackets, escape sequences, and characters that
    the terminal's encoding lacks.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of `renderable`: control codes of rich unchanged, text escaped."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                text = printable_lines(segment.text)
                yield Segment(text.encode(self.encoding, "backslashreplace").decode(self.encoding), segment.style)
