"""Workflows and pre-commit call programs that exist, with the versions that setup.py states."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from repository import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    """The steps of all jobs."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [])]


def test_workflows_are_found() -> None:
    assert {workflow.stem for workflow in WORKFLOWS} == {
        "lint",
        "tests",
        "wheel",
        "docs",
        "gallery",
        "release",
        "audit",
    }


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_are_valid(workflow: Path) -> None:
    """Shell text parses, targets of make exist, and each action is pinned to a commit."""
    for step in steps(workflow):
        if "uses" in step:
            assert re.search(r"@[0-9a-f]{40}$", step["uses"]), step["uses"]
        else:
            script = re.sub(r"\$\{\{.*?\}\}", "x", step["run"])
            parsed = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)
            assert parsed.returncode == 0, f"{step['run']}: {parsed.stderr}"
            for target in re.findall(r"^\s*make (\S+)", step["run"], re.MULTILINE):
                dry_run = subprocess.run(["make", "-n", "-C", ROOT, target], capture_output=True, text=True)
                assert dry_run.returncode == 0, dry_run.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_states_the_version_of_each_action(workflow: Path) -> None:
    """A job that needs more, to publish, states it itself."""
    text = workflow.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    commits: dict[str, set[str]] = {}
    for action, commit in re.findall(r"uses: ([\w-]+/[\w-]+)@(.*)$", text, re.MULTILINE):
        assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", commit), f"{action}@{commit}"
        commits.setdefault(action, set()).add(commit)
    assert all(len(versions) == 1 for versions in commits.values())


def test_the_oldest_pytorch_is_the_one_of_setup_py() -> None:
    bounds = dict(re.findall(r'"(torch|torchvision)>=([\d.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8")))
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    assert dict(re.findall(r"(torch|torchvision)==([\d.]+)\.\*", text)) == bounds


def test_the_pythons_start_at_the_oldest_of_setup_py() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    keywords = {word.arg: word.value for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords}
    oldest = ast.literal_eval(keywords["python_requires"]).removeprefix(">=")
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"]["tests"]["strategy"]["matrix"]["python"][0] == oldest


def test_pre_commit_runs_tools_of_the_environment() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    local = [hook for repository in config["repos"] if repository["repo"] == "local" for hook in repository["hooks"]]
    assert {hook["id"] for hook in local} == {"ruff-check", "ruff-format", "codespell", "plain-english"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in local)
    size_hooks = [hook for hook in config["repos"][0]["hooks"] if hook["id"] == "check-added-large-files"]
    assert size_hooks[0]["args"] == ["--maxkb=500"]


def test_no_file_is_larger_than_pre_commit_allows() -> None:
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert [name for name in names if (ROOT / name).stat().st_size > 500 * 1024] == []
