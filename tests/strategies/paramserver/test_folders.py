"""Names of folders in messages."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.strategies.paramserver.folders import Folders


@pytest.mark.parametrize(
    ("config", "folder", "name"),
    [
        (Config(), "runs/digits-1/checkpoints/step-1", "runs/digits-1/checkpoints/step-1"),
        (Config(out=Path("a")), "a", "out/."),
        (Config(out=Path("a")), "a/ps", "out/ps"),
        (Config(out=Path("a"), resume="auto"), "a/checkpoints/.step-1.x", "out/checkpoints/.step-1.x"),
        (Config(out=Path("a"), resume="b"), "b/checkpoints/step-5", "resume/checkpoints/step-5"),
        (Config(out=Path("a"), resume="b/checkpoints/step-5"), "b/checkpoints/step-5", "resume/."),
        (Config(resume="b"), "b/checkpoints/step-5", "resume/checkpoints/step-5"),
    ],
)
def test_a_folder_of_the_run_has_a_name_and_is_found_by_it(config: Config, folder: str, name: str) -> None:
    assert Folders(config).name(Path(folder)) == name
    assert Folders(config).path(name) == Path(folder).resolve()


@pytest.mark.parametrize("folder", ["/etc", ".", "other", "a/../other"])
def test_a_folder_outside_has_no_name(folder: str) -> None:
    with pytest.raises(UserError, match="is outside of the run folder"):
        Folders(Config(out=Path("a"))).name(Path(folder))


@given(st.text() | st.sampled_from(["out", "runs", "resume"]).flatmap(lambda kind: st.text().map(f"{kind}/".__add__)))
def test_any_name_is_inside_or_refused(name: str) -> None:
    for config in (Config(), Config(out=Path("a"), resume="b")):
        try:
            path = Folders(config).path(name)
        except UserError:
            continue
        assert any(path.is_relative_to(Path(root).resolve()) for root in ("runs", "a", "b"))
        assert ".." not in path.parts
