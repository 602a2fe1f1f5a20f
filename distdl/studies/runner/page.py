"""The page of a study: its findings, trials and settings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distdl.core import registry, schema
from distdl.core.errors import UserError
from distdl.core.format import Cell, duration
from distdl.core.layering import leaves
from distdl.core.userfiles import parse_json
from distdl.report.configuration import cell
from distdl.report.content import Finding, Section, Table
from distdl.report.page import Fact, Page, write
from distdl.studies.runner import findings_file as stored

STUDY, FINDINGS, TRIALS, TRIAL, RESULT, REPORT = (
    "study.toml",
    "findings.json",
    "trials",
    "trial.json",
    "result.json",
    "report.html",
)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """State of a trial, as far as its folder can be read."""

    name: str
    status: str
    labels: Mapping[str, Cell]
    seconds: float | None
    result: Mapping[str, Any]


def is_study(path: Path) -> bool:
    """Whether `path` is a study's folder."""
    return (path / STUDY).is_file() or (path / FINDINGS).is_file()


def write_study(path: Path, sections: Sequence[Section]) -> Path:
    """Write report.html into a study's folder, at the end of `distdl study run`.

    Raises:
        UserError: if the extra `report` is not installed, or the file cannot be written.
    """
    return write(path / REPORT, page(path, sections))


def page(path: Path, sections: Sequence[Section] | None = None) -> Page:
    """Build the page of the study in the folder `path`.

    Args:
        sections: the findings. Default: those of findings.json; if that file is older than a trial's result or cannot
            be read, the study computes them.
    Raises:
        UserError: if there are no findings, and the study's package is not installed.
    """
    notes: list[str] = []
    table = _study(path)
    folders = [folder for folder in sorted((path / TRIALS).glob("*")) if folder.is_dir()]
    trials = [_trial(folder, notes) for folder in folders]
    displayed = list(_sections(path, notes) if sections is None else sections)
    if not displayed:
        notes.append("no trial is completed yet, so there are no findings")
    waiting = [trial for trial in trials if trial.status not in ("completed", "waiting")]
    notes += [f"trial {trial.name}: {trial.status}" for trial in waiting[:20]]
    name = str(table.get("study") or path.resolve().name)
    return Page(
        title=name,
        subtitle=_summary(name),
        facts=tuple(_facts(displayed, trials)),
        notes=tuple(notes),
        sections=(*displayed, *_trials_and_settings(table.get("settings"), trials)),
    )


def _sections(path: Path, notes: list[str]) -> list[Section]:
    findings = path / FINDINGS
    why = f"there is no {FINDINGS}"
    if findings.is_file():
        try:
            displayed = stored.sections(findings)
        except UserError as error:
            displayed, why = None, str(error)
        newest = max((file.stat().st_mtime for file in (path / TRIALS).glob(f"*/{RESULT}")), default=0.0)
        if displayed is not None and newest <= findings.stat().st_mtime:
            return displayed
    else:
        displayed = None
    from distdl.studies.runner.folder import StudyFolder

    try:
        return StudyFolder.open(path).sections()
    except UserError as error:
        if displayed is None:
            raise UserError(f"{path}: {why}, and the study cannot compute its findings: {error}") from None
        notes.append(f"{FINDINGS} is older than some trials, and the study cannot compute new findings: {error}")
        return displayed


def _facts(sections: Sequence[Section], trials: Sequence[_Trial]) -> Iterator[Fact]:
    if trials:
        done = sum(trial.status == "completed" for trial in trials)
        others = sorted({trial.status for trial in trials} - {"completed"})
        counts = [f"{sum(trial.status == status for trial in trials)} {status}" for status in others]
        yield Fact("trials completed", f"{done} of {len(trials)}", ", ".join(counts))
    findings = [part for section in sections for part in section.parts if isinstance(part, Finding)]
    expected = [finding for finding in findings if finding.holds is not None]
    if expected:
        holds = sum(finding.holds is True for finding in expected)
        yield Fact("findings as expected", f"{holds} of {len(expected)}", f"{len(findings)} findings in total")
    spent = [trial.seconds for trial in trials if trial.seconds]
    if spent:
        yield Fact("time of all trials", duration(sum(spent)), f"longest trial: {duration(max(spent))}")


def _trials_and_settings(settings: Any, trials: Sequence[_Trial]) -> Iterator[Section]:
    if trials:
        labels = list(dict.fromkeys(label for trial in trials for label in trial.labels))
        scored = any(_accuracy(trial) is not None for trial in trials)
        rows = tuple(
            (
                trial.name,
                trial.status,
                *(trial.labels.get(label) for label in labels),
                *((_accuracy(trial),) if scored else ()),
                trial.seconds,
            )
            for trial in trials
        )
        columns = ("trial", "status", *labels, *(("test accuracy (%)",) if scored else ()), "seconds")
        yield Section(
            title="Trials", parts=(Table(name="trials", title=f"{len(trials)} trials", columns=columns, rows=rows),)
        )
    if isinstance(settings, Mapping) and settings:
        rows = tuple((key, cell(value)) for key, value in leaves(settings, tables=()))
        table = Table(name="settings", title="All settings", columns=("setting", "value"), rows=rows)
        yield Section(title="Settings", parts=(table,))


def _accuracy(trial: _Trial) -> float | None:
    tested = trial.result.get("test")
    accuracy = tested.get("accuracy") if tested else None
    return None if accuracy is None else 100 * accuracy


def _study(path: Path) -> dict[str, Any]:
    """Content of study.toml; empty if there are only findings.

    Raises:
        UserError: if the file is damaged.
    """
    from distdl.studies.runner.folder import read_study

    return read_study(path) if (path / STUDY).is_file() else {}


def _trial(folder: Path, notes: list[str]) -> _Trial:
    record = _read(folder / TRIAL, schema.TRIAL, notes)
    return _Trial(
        name=folder.name,
        status=record.get("status") or "waiting",
        labels={name: cell(value) for name, value in record.get("labels", {}).items()},
        seconds=record.get("seconds"),
        result=_read(folder / RESULT, schema.RESULT, notes),
    )


def _read(file: Path, kind: schema.FieldKind, notes: list[str]) -> dict[str, Any]:
    if not file.is_file():
        return {}
    displayed, odd = f"{file.parent.name}/{file.name}", Counter()
    try:
        values = schema.take(schema.read_table(file, parse_json, displayed), kind, odd)
    except UserError as error:
        notes.append(str(error))
        return {}
    notes += schema.left_out(displayed, odd)
    return values


def _summary(name: str) -> str:
    """Summary of the study; empty if its package is not installed."""
    from distdl.studies.runner import catalog

    row = registry.rows("studies").get(name)
    if row is not None and registry.is_shipped("studies", row):
        return row.summary
    try:
        return catalog.find(name).summary
    except UserError:
        return ""
