"""Pictures of findings.json stay in the study's folder, whatever they are called."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from distdl.report.content import Picture, Section
from distdl.studies.base import Study
from distdl.studies.runner.findings_file import sections
from distdl.studies.runner.folder import FINDINGS, StudyFolder


@dataclass(frozen=True, kw_only=True)
class Settings:
    seeds: int = 1


PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\0\0\0\1\0\0\0\1"
"""The start of a PNG file of one pixel."""
NAMES = ["target", "../../up", "/tmp/absolute", "..", "", "a/b", "a\nb", "a\x1b[31m", "-rf", "a" * 300, "gr\u00fcn"]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_written_and_read_in_the_folder(tmp_path: Path, name: str) -> None:
    study = Study(name="made", settings=Settings, quick={}, trials=lambda _: [], findings=lambda *_: [])
    folder = tmp_path / "deep" / "study"
    folder.mkdir(parents=True)
    picture = Picture(name=name, title="t", png=PNG)
    StudyFolder(folder, study, Settings()).write_findings([Section(title="S", parts=(picture,))])
    assert len(list(folder.glob("*.png"))) == 1 and len(list(tmp_path.rglob("*.png"))) == 1
    (read,) = sections(folder / FINDINGS)
    assert isinstance(read.parts[0], Picture) and read.parts[0].png == PNG


@pytest.mark.parametrize("name", ["../secret", "secret/../../secret", "{tmp}/secret", "a/../../secret"])
def test_a_picture_outside_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "study").mkdir()
    picture = {"kind": "picture", "name": name.format(tmp=tmp_path), "title": "", "caption": ""}
    content = [{"kind": "section", "title": "S", "text": "", "parts": [picture]}]
    (tmp_path / "study" / FINDINGS).write_text(json.dumps(content))
    assert sections(tmp_path / "study" / FINDINGS)[0].parts == ()
