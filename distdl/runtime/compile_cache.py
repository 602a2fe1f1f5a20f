"""The folder in which torch.compile keeps compiled code, which later trainings load and run.

By default it is in the folder for temporary files, under a name that other users can predict: a user who creates it
first chooses the code that this user runs, because torch unpickles files of it.
"""

import os
import stat
from collections.abc import MutableMapping

from distdl.core.errors import UserError, reason
from distdl.core.paths import cache_folder
from distdl.runtime.torch_private import default_compile_cache

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def make_private(environ: MutableMapping[str, str]) -> None:
    """Let torch.compile use a folder that only this user can change, unless the environment names another one.

    torch may have put its default into the environment when it was imported.

    Raises:
        UserError: the folder cannot be created, or others can change it.
    """
    if environ.get(VARIABLE) not in (None, "", default_compile_cache()):
        return
    folder = cache_folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise UserError(
            f"compute.compile needs a folder for compiled code, and {folder} cannot be created: {reason(error)}; name "
            f"another one by {VARIABLE}"
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UserError(
            f"other users can change {folder}, whose compiled code this training would run: remove it, or name another "
            f"folder by {VARIABLE}"
        )
    environ[VARIABLE] = str(folder)
