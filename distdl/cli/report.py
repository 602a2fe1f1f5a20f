"""`distdl report RUN|STUDY...`: a run, several runs side by side, or a study, as a page."""

from pathlib import Path

import tyro

from distdl.core.errors import UserError
from distdl.report.run_folder import is_run, labels, read

REPORT = "report.html"


def report(paths: tyro.conf.Positional[tuple[Path, ...]], *, out: Path | None = None) -> None:
    """Write one page that shows runs, or a study, and needs no network and no server.

    Args:
        paths: folders of runs, shown side by side, or the folder of one study.
        out: the page; without it report.html in the folder, or in this one for several runs. Beside it come its figures
            as SVG and PNG, and all data as CSV.
    """
    print(write_report(list(paths), out))


def write_report(paths: list[Path], out: Path | None = None) -> Path:
    """Write the page and return its place.

    Raises:
        UserError: a path is neither a run nor a study, or they do not go together.
    """
    from distdl.report import page
    from distdl.report import run_page as runs
    from distdl.studies.runner import page as study

    if not paths:
        raise UserError("which run? give the folder of one run or more, or of a study")
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is no folder: give the folder of a run or of a study")
    studies = [path for path in paths if study.is_study(path)]
    if studies and len(paths) > 1:
        raise UserError(f"{studies[0]} is a study, which has a page of its own: give it alone")
    if studies:
        return page.write(out or paths[0] / REPORT, study.page(paths[0]))
    for path in paths:
        if not is_run(path):
            raise UserError(f"{path} is neither a run nor a study: give the folder that distdl train --out names")
    found = [read(path, label) for path, label in zip(paths, labels(paths), strict=True)]
    return page.write(out or (paths[0] / REPORT if len(paths) == 1 else Path(REPORT)), runs.page(found))
