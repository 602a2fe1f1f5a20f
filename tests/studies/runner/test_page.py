"""A study's page: findings from findings.json or computed again, unusual names, and damaged files."""

import json
import os
import struct
from pathlib import Path

import pytest

from distdl.cli.report import write_report
from distdl.core.errors import UserError
from distdl.report import page as pages
from distdl.report.content import Axis, Figure, Finding, Picture, PlotLayer, Section, Table
from distdl.studies.runner import findings_file as stored
from distdl.studies.runner import page as study
from distdl.studies.runner.folder import StudyFolder
from other_user import OTHER, needs_root
from run_folders import result

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f000105010127"
    "18e3660000000049454e44ae426082"
)
LAYER = PlotLayer(mark="line", data={"x": [1, 2], "kind": [0.5, None]}, y="kind")
SECTIONS = [
    Section(
        title="Results",
        text="Over seeds.",
        parts=(
            Finding(text="Fine-tuned reaches 71.9 % (70.8 to 73.0).", n=5, holds=True),
            Finding(text="Frozen beats it.", n=5, holds=False),
            Finding(text="It took long.", n=1),
            Table(name="scores", title="Scores", columns=("who", "accuracy (%)"), rows=(("a", 1.5), ("b", None))),
            Figure(name="curve", title="Curve", x=Axis(title="x"), y=Axis(title="y", scale="log"), layers=(LAYER,)),
            Picture(name="samples", title="Samples", png=PNG, caption="Some."),
        ),
    )
]


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


@pytest.fixture
def folder(tmp_path):
    """Write the folder of a finished study whose plug-in is not installed."""
    path = tmp_path / "mine"
    for name, status in (("a-seed0", "completed"), ("b-seed0", "failed")):
        trial = path / "trials" / name
        trial.mkdir(parents=True)
        record = {"status": status, "seconds": 12.5, "labels": {"lr": 0.1, "kind": name[0]}}
        (trial / "trial.json").write_text(json.dumps(record))
        if status == "completed":
            (trial / "result.json").write_text(json.dumps(result("a", 10, gpu=False)))
    (path / "study.toml").write_text('study = "not-installed"\n[settings]\nseeds = 5\nrates = [0.1, 0.01]\n')
    writer = StudyFolder.__new__(StudyFolder)  # only to write findings.json
    writer.path = path
    writer.write_findings(SECTIONS)
    return path


def test_findings_are_read_back_unchanged(folder):
    assert stored.sections(folder / "findings.json") == SECTIONS


def test_the_page_has_findings_trials_and_settings(folder):
    page = study.page(folder)
    assert page.title == "not-installed" and page.sections[0] == SECTIONS[0]
    assert page.notes == ("trial b-seed0: failed",)
    facts = {fact.label: (fact.value, fact.note) for fact in page.facts}
    assert facts["trials completed"] == ("1 of 2", "1 failed")
    assert facts["findings as expected"] == ("1 of 2", "3 findings in total")
    trials, settings = (section.parts[0] for section in page.sections[1:])
    assert trials.columns == ("trial", "status", "lr", "kind", "test accuracy (%)", "seconds")
    assert trials.rows[0] == ("a-seed0", "completed", 0.1, "a", pytest.approx(95.56), 12.5)
    assert ("rates", "0.1, 0.01") in settings.rows


def test_the_page_is_written_into_the_study_folder(folder):
    text = write_report([folder]).read_text(encoding="utf-8")
    assert (folder / "report.html").is_file()
    assert "Fine-tuned reaches 71.9 % (70.8 to 73.0)." in text and "not as expected" in text
    assert {"curve.svg", "curve.png", "curve.csv", "scores.csv", "samples.png", "trials.csv"} <= set(
        names(folder / "report")
    )
    assert "data:image/" in text


def test_newer_results_without_the_plug_in_are_noted(folder):
    old = (folder / "findings.json").stat().st_mtime
    os.utime(folder / "trials" / "a-seed0" / "result.json", (old + 9, old + 9))
    notes = study.page(folder).notes
    assert any("findings.json is older than some trials" in note and "not-installed" in note for note in notes)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"kind": "section"}]', '[{"kind": "nonsense"}]', '{"kind": "section"}']
)
def test_damaged_findings_without_the_plug_in_are_an_error(folder, text):
    (folder / "findings.json").write_text(text)
    with pytest.raises(UserError, match=r"cannot compute its findings.*not-installed"):
        study.page(folder)


def test_damaged_trials_are_noted(folder):
    (folder / "trials" / "a-seed0" / "trial.json").write_text("{")
    notes = study.page(folder, SECTIONS).notes
    assert any(note.startswith("a-seed0/trial.json cannot be read") for note in notes)


def test_a_study_together_with_a_run_is_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UserError, match="which has its own page"):
        write_report([folder, other])


def test_file_names_stay_in_the_folder_and_are_unique(tmp_path):
    tables = [
        Table(name=name, title="", columns=("a",), rows=((1,),)) for name in ("../../x", "x", "X", "a/b c", "..", "")
    ]
    file = tmp_path / "deep" / "page.html"
    pages.write(file, pages.Page(title="T", sections=(Section(title="S", parts=tuple(tables)),)))
    assert names(file.parent / "page") == [
        "X-3.csv",
        "a-b-c.csv",
        "part-2.csv",
        "part.csv",
        "x-2.csv",
        "x.csv",
    ]
    assert names(tmp_path) == ["deep"]
    text = file.read_text(encoding="utf-8")
    assert text.count('<div class="table"') == len(tables)


def test_a_picture_with_too_many_pixels_is_refused(tmp_path: Path) -> None:
    """Only the header is read: such a file of 20 kB can have billions of pixels."""
    picture = {"kind": "picture", "name": "p", "title": "", "caption": ""}
    section = {"kind": "section", "title": "", "text": "", "parts": [picture]}
    (tmp_path / "findings.json").write_text(json.dumps([section]))
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 30_000, 30_000)
    for content, message in ((header, "has 30,000 x 30,000 pixels"), (b"GIF89a" + bytes(30), "is not a PNG")):
        (tmp_path / "p.png").write_bytes(content)
        with pytest.raises(UserError, match=rf"findings\.json cannot be read as findings: .*p\.png {message}"):
            stored.sections(tmp_path / "findings.json")


def test_figures_are_not_written_through_a_link_of_another_user(tmp_path: Path) -> None:
    needs_root()
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "page"
    link.symlink_to(tmp_path / "elsewhere")
    page = pages.Page(title="a", subtitle="", sections=())
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(UserError, match="page is a link of another user"):
        pages.write(tmp_path / "page.html", page)
    assert not list((tmp_path / "elsewhere").iterdir()) and not (tmp_path / "page.html").exists()
