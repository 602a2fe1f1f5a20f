"""The file that --figure names."""

from pathlib import Path
from typing import TYPE_CHECKING

from distdl.core.errors import UserError, reason
from distdl.core.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")


def check(path: Path | None) -> None:
    """Refuse a file of another kind before anything is measured or drawn.

    Raises:
        UserError: the suffix is none of FORMATS, or `path` is a folder.
    """
    if path and path.suffix.lower() not in FORMATS:
        raise UserError(f'--figure {path}: "{path.suffix}" is not one of {", ".join(FORMATS)}')
    if path and path.is_dir():
        raise UserError(f"--figure {path} is a folder: name a file in it")


def save(figure: "Figure", path: Path, dpi: int) -> None:
    """Draw a figure into its file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda sink: figure.savefig(sink, format=path.suffix[1:].lower(), dpi=dpi))
    except OSError as error:
        raise UserError(f"--figure {path} cannot be written: {reason(error)}") from None
