"""Folders that servers read and write: each server finds them in its own configuration, not in messages."""

from pathlib import Path

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.paths import inside
from distdl.core.run_files import RUNS

MAX_BYTES = 4096
"""Maximum length of the name of a folder in a message: PATH_MAX of Linux."""


class Folders:
    """Names of folders, relative to the run folder, or to the path in --resume, of this process's configuration.

    Without --out rank 0 chooses the name of the run folder, which is in runs/.
    """

    def __init__(self, config: Config) -> None:
        self._roots = {"out": config.out.resolve()} if config.out else {"runs": RUNS.resolve()}
        if config.resume not in ("", "auto"):
            self._roots["resume"] = Path(config.resume).resolve()

    def name(self, folder: Path) -> str:
        """Return the name of a folder.

        Raises:
            UserError: if it is outside of all of them.
        """
        for kind, root in self._roots.items():
            if folder.resolve().is_relative_to(root):
                return f"{kind}/{folder.resolve().relative_to(root)}"
        raise UserError(f"{folder} is outside of the run folder and of --resume")

    def path(self, name: str) -> Path:
        """Return the folder of a name.

        Raises:
            UserError: if it is outside.
        """
        kind, _, rest = name.partition("/")
        if kind not in self._roots:
            raise UserError(f"a worker names a folder of {kind!r}, which this server's command line does not contain")
        root = self._roots[kind]
        return root if rest == "." and kind != "runs" else inside(root, rest, "a worker")
