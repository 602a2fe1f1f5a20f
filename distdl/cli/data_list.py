"""`distdl data list`: the known data sets, and which of them are on this machine."""

from rich.table import Table
from rich.text import Text

from distdl.core.config import FilePath
from distdl.core.console import PlainConsole
from distdl.core.paths import data_root, root_origin
from distdl.core.registry import rows
from distdl.core.text import printable
from distdl.data.sets.catalog import SETS
from distdl.data.sets.load import available


def list_sets(*, root: FilePath | None = None) -> None:
    """List the known data sets, and which of them are on this machine.

    Args:
        root: folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder.
    """
    base = data_root(root)
    title = Text(printable(f"data sets in {base} ({root_origin(root)})"), "italic")
    table = Table(title=title, title_justify="left")
    for column in ("name", "available", "description"):
        table.add_column(column, overflow="fold")
    for name, (where, _) in available(base).items():
        missing = "no; downloaded on first use" if SETS[name].files else "no"
        mark = Text("yes", "green") if where else Text(missing, "yellow")
        table.add_row(name, mark, SETS[name].text)
    for name, row in rows("datasets").items():
        table.add_row(name, Text("installed", "green"), row.summary)
    console = PlainConsole()
    console.print(table)
    console.print("Also accepted: the path of an image folder or of an archive of one, or package.module:callable.")
