"""`distdl report --anonymous`: names that are planted in every file of a run and of a study are not in the page."""

import getpass
import json
import platform
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from distdl.cli.__main__ import main
from distdl.core.files import as_json
from distdl.report.anonymous import anonymous
from fuzz.targets import odd_values
from run_folders import write_run

USER, HOST, OTHER_HOST, ACCOUNT = "alicesmith", "gpu17.cluster.example.org", "login3", "acct4711"
HOME = f"/home/{USER}/projects/secretwork"
PLANTED = (USER, HOST, "gpu17", OTHER_HOST, "gpu21", ACCOUNT, "secretwork", "alice@example.org", "scratchplace")
LEAKS = f"{HOME}/x on {HOST}, by {USER} ({ACCOUNT}), alice@example.org, /opt/scratchplace/y, gpu21 failed"


def edit(file: Path, **values: Any) -> None:
    file.write_bytes(as_json(json.loads(file.read_text()) | values))


def plant(run: Path) -> None:
    """Write the names into each file of a run."""
    job = {"SLURM_JOB_USER": USER, "SLURM_JOB_ACCOUNT": ACCOUNT, "SLURM_JOB_NODELIST": "gpu[17-21],login3"}
    command = [f"{HOME}/.venv/bin/distdl", "train", f"--profile={HOME}/mine.toml", "--out", f"runs/{USER}/x"]
    edit(run / "environment.json", host=HOST, command=command, job=job, platform=f"Linux of {HOST}", gpus=[HOST])
    legs = [{"host": OTHER_HOST, "from_step": 0}, {"host": HOST, "from_step": 3}]
    edit(run / "result.json", name=f"{USER}-resnet", host=HOST, legs=legs, device=f"cpu of {OTHER_HOST}")
    config = {"name": f"{USER}-resnet", "data": {"name": f"{HOME}/photos", "root": f"~{USER}/data"}}
    config["model"] = {"name": "resnet18", "weights": f"weights/{USER}/w.pth"}
    (run / "config.toml").write_text(tomli_w.dumps(config))
    place = {"time_s": 1.0, "step": 9, "epoch": 1.0}
    rows = [
        place | {"kind": "warning", "message": LEAKS},
        place | {"kind": f"test of {USER}", "accuracy": 0.5, "loss": 1.0},
    ]
    with (run / "metrics.jsonl").open("a") as sink:
        sink.writelines(f"{json.dumps(row)}\n" for row in rows)
    for host in (HOST, OTHER_HOST):
        text = (run / "telemetry.jsonl").read_text().replace("node1", host)
        (run / f"telemetry-{host}.jsonl").write_text(text)


def contents(page: Path) -> dict[str, str]:
    """Text of a page and of its files by name; the figures in the page are those of the files."""
    files = [page, *page.with_suffix("").iterdir()]
    return {file.name: file.read_text(errors="replace") for file in files}


def leaks(page: Path) -> list[str]:
    return [
        f"{name} in {file}" for file, text in contents(page).items() for name in PLANTED if name.lower() in text.lower()
    ]


@pytest.mark.parametrize("several", [False, True])
def test_the_page_of_runs_has_no_planted_name(
    several: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_run(tmp_path / USER / f"{HOST}-{number}" / "run", rows=12, samples=3) for number in range(1 + several)
    ]
    for run in runs:
        plant(run)
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "named.html")]) == 0
    assert {leak.partition(" ")[0] for leak in leaks(tmp_path / "named.html")} >= {USER, HOST, "secretwork"}
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "sent.html"), "--anonymous"]) == 0
    assert leaks(tmp_path / "sent.html") == []
    text = (tmp_path / "sent.html").read_text()
    assert "(host " in text and (several or ("resnet18" in text and "(user " in text))


def test_the_page_of_a_study_has_no_planted_name(tmp_path: Path) -> None:
    study = odd_values.make_study(tmp_path / "study").path
    for trial in (study / "trials").iterdir():
        plant(trial)
        edit(trial / "trial.json", host=HOST, reason=LEAKS, labels={"place": LEAKS, "host": OTHER_HOST})
    text = (study / "findings.json").read_text().replace("Speed", LEAKS).replace('"title": "', f'"title": "{LEAKS} ')
    (study / "findings.json").write_text(text)
    assert main(["report", str(study), "--out", str(tmp_path / "named.html")]) == 0
    assert leaks(tmp_path / "named.html")
    assert main(["report", str(study), "--out", str(tmp_path / "sent.html"), "--anonymous"]) == 0
    assert leaks(tmp_path / "sent.html") == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "9,000 images/s",
            "forward/backward",
            "loss 0.1365 (n = 3)",
            "resnet18 on digits",
            "1/2",
            "w.r.t. x/y",
            "a / b",
        ),
        *("optim.lr", "data.root", "train", "cpu", "μs/step"),
    ],
)
def test_other_texts_are_unchanged(text: str, tmp_path: Path) -> None:
    assert anonymous(text, [write_run(tmp_path / "run", rows=3)]) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "/etc/passwd",
            "~/x",
            "~bob/x",
            "../x/y",
            "./x",
            "see /a/b.",
            "file=/a/b",
            "(/a/b)",
            '"/a/b"',
            "bob@example.org",
        ),
        f"on {platform.node()}",
    ],
)
def test_paths_addresses_and_this_machine_are_replaced(text: str, tmp_path: Path) -> None:
    changed = anonymous([text], [tmp_path])[0]
    for name in ("passwd", "bob", "/a/b", "x/y", "/x", platform.node()):
        assert name not in changed
    assert changed.count("(") >= 1


def test_the_current_user_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carolwhite")
    assert getpass.getuser() == "carolwhite"
    assert anonymous(("by CarolWhite", {"carolwhite": 1}), [tmp_path]) == ("by (user 1)", {"(user 1)": 1})
