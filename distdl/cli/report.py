"""`distdl report RUN|STUDY...`: a run, several runs side by side, or a study, as a page."""

from pathlib import Path

import tyro

from distdl.core.config import FilePath
from distdl.core.errors import UserError
from distdl.core.text import print_line
from distdl.report.run_folder import is_run, labels, read

REPORT = "report.html"


def report(
    paths: tyro.conf.Positional[tuple[FilePath, ...]], *, out: FilePath | None = None, anonymous: bool = False
) -> None:
    """Write a page that shows runs or a study. It is one file and needs neither network nor server.

    Args:
        paths: folders of runs, shown side by side, or the folder of one study.
        out: file of the page; by default report.html in the folder of the run or study, or in the current folder for
            several runs. A folder next to it gets the figures as SVG and PNG, and all data as CSV.
        anonymous: replace names of users, hosts and accounts, and paths, so that the page can be sent to others.
    """
    print_line(write_report(list(paths), out, anonymous=anonymous))


def write_report(paths: list[Path], out: Path | None = None, *, anonymous: bool = False) -> Path:
    """Write the page and return its path.

    Args:
        anonymous: replace the names that `distdl.report.anonymous` finds.
    Raises:
        UserError: a path is neither a run nor a study, or a study is not given alone.
    """
    from distdl.report import page, run_page
    from distdl.report.anonymous import anonymous as anonymized
    from distdl.studies.runner import page as study_page

    def without_names(content: page.Page) -> page.Page:
        return anonymized(content, paths) if anonymous else content

    if not paths:
        raise UserError("no folder was given: give the folder of one or more runs, or of a study")
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is not a folder: give the folder of a run or of a study")
    studies = [path for path in paths if study_page.is_study(path)]
    if studies and len(paths) > 1:
        raise UserError(f"{studies[0]} is a study, which has its own page: give it alone")
    if studies:
        return page.write(out or paths[0] / REPORT, without_names(study_page.page(paths[0])))
    for path in paths:
        if not is_run(path):
            raise UserError(f"{path} is neither a run nor a study: give the folder that distdl train --out names")
    names = [f"run {number}" for number in range(1, len(paths) + 1)] if anonymous else labels(paths)
    runs = [read(path, label) for path, label in zip(paths, names, strict=True)]
    content = without_names(run_page.page(runs))
    return page.write(out or (paths[0] / REPORT if len(paths) == 1 else Path(REPORT)), content)
