"""Names of components: rows of distdl, entry points of other packages, and package.module:callable."""

import re
import subprocess
import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import pytest

from distdl.cli.__main__ import main
from distdl.core import registry, targets
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.profiles import Recipe, resolve


def test_a_name_is_a_row_an_import_target_or_an_error() -> None:
    assert registry.find("optimizers", "sgd").factory == "distdl.optim.optimizers:sgd"
    assert registry.find("optimizers", "torch.optim:NAdam").factory == "torch.optim:NAdam"
    assert registry.find("optimizers", "user_optimizer:ROW").uses == ("optim.momentum",)
    with pytest.raises(UserError, match=r"optim.name: 'sgdd' is not one of 'sgd', .*; did you mean \"sgd\"\?"):
        registry.find("optimizers", "sgdd")


NAMES = {
    "adamm": "optim.name: 'adamm' is not one of 'sgd', 'adam', 'adamw', 'adagrad', 'rmsprop', 'lars', 'lamb', nor "
    'package.module:callable; did you mean "adam"',
    "no.such:Adam": "optim.name: cannot import no.such:Adam: there is no module no.such, neither installed nor in /",
    "torch.optim:": "optim.name: 'torch.optim:' names no callable: write package.module:callable, as in "
    "torch.optim:NAME",
    "torch/optim.py:Adam": "optim.name: 'torch/optim.py:Adam' is not package.module:callable; did you mean "
    '"torch.optim:Adam"? (the current folder is searched too)',
    "own.py": "optim.name: 'own.py' names no callable: write package.module:callable, as in own:NAME",
    "os;x:y": "optim.name: 'os;x:y' is not package.module:callable",
}


@pytest.mark.parametrize(("name", "message"), NAMES.items())
def test_an_invalid_name_is_a_one_line_error(name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        resolve(Recipe(overrides={"optim.name": name}), strategy="single")


def test_the_nearest_module_in_the_current_folder_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "losses_of_mine.py").write_text("def f(): ...")
    with pytest.raises(UserError, match=r'loss: cannot import losses_of_min:f: .* did you mean "losses_of_mine:f"'):
        resolve(Recipe(overrides={"loss": "losses_of_min:f"}), strategy="single")


def test_a_failed_import_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "script_of_mine.py").write_text("raise SystemExit(3)")
    with pytest.raises(
        UserError, match=r"^loss: cannot import json:dump_: there is no 'dump_' .* mean \"json:dumps?\""
    ):
        targets.load("json:dump_", "loss")
    with pytest.raises(UserError, match=r"^loss: cannot import script_of_mine:f: SystemExit: 3"):
        targets.load("script_of_mine:f", "loss")


def test_other_packages_can_add_but_not_replace_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint(name="nadam", value="json:dumps", group="distdl.optimizers"),
        EntryPoint(name="sgd", value="json:dumps", group="distdl.optimizers"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "distdl.optimizers" else [])
    assert registry.find("optimizers", "nadam").factory == "json:dumps"
    assert registry.find("optimizers", "sgd").factory == "distdl.optim.optimizers:sgd"
    assert set(registry.names("optimizers", "*ada*")) == {"adam", "adamw", "adagrad", "nadam"}
    assert resolve(Recipe(overrides={"optim.name": "nadam"}), strategy="single").optim.name == "nadam"


def test_a_configuration_is_checked_without_torch() -> None:
    code = (
        "import sys; from distdl.core.profiles import Recipe, resolve; from distdl.core import registry; "
        "resolve(Recipe(), strategy='ddp'); registry.rows('strategies'); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_options_are_nested_tables_from_profiles_and_texts() -> None:
    overrides = {"options": ["model.depth=3", "json:dumps.url=x=y"], "trackers": ["json:dumps"]}
    from_texts = resolve(Recipe(overrides=overrides), strategy="single")
    assert from_texts.options == {"model": {"depth": "3"}, "json:dumps": {"url": "x=y"}}
    from_table = resolve(Recipe(overrides={"options": {"model": {"depth": 3}}}), strategy="single")
    assert from_table.options == {"model": {"depth": 3}}


def test_an_entry_point_may_refer_to_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="mine", value="user_optimizer:ROW", group="distdl.optimizers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == "distdl.optimizers" else [])
    assert registry.find("optimizers", "mine").uses == ("optim.momentum",)
    config = resolve(Recipe(overrides={"optim.name": "mine", "optim.momentum": 0.5}), strategy="single")
    assert config.optim.momentum == 0.5


def test_options_of_no_component_are_an_error() -> None:
    with pytest.raises(UserError, match=r"^options.modelx: no component .* did you mean \"model\"\?"):
        resolve(Recipe(overrides={"options": ["modelx.depth=3"]}), strategy="single")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two installed packages that offer the optimizer `same`; the first also an optimizer `sgd`."""
    for package, rows in {"first": "same = json:dumps\nsgd = json:dumps", "second": "same = json:loads"}.items():
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[distdl.optimizers]\n{rows}\n")
        assert Distribution.at(info).name == package
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("packages")
def test_a_name_offered_by_two_packages_is_refused() -> None:
    both = r"offered by (first 1\.0 \(json:dumps\) and second 1\.0 \(json:loads\)|second .* and first .*): remove one"
    with pytest.raises(UserError, match=rf'^optim.name: "same" is {both}'):
        resolve(Recipe(overrides={"optim.name": "same"}), strategy="single")
    assert re.fullmatch(both, registry.rows("optimizers")["same"].summary)


@pytest.mark.usefixtures("packages")
def test_a_component_of_distdl_hides_one_of_another_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert registry.find("optimizers", "sgd").factory == "distdl.optim.optimizers:sgd"
    assert main(["list", "optimizers", "sgd"]) == 0
    warning = 'warning: optimizer "sgd" of first 1.0 is hidden by distdl\'s own: use json:dumps\n'
    assert capsys.readouterr().err == warning


@pytest.mark.parametrize("group", sorted(registry.KINDS))
def test_a_row_of_another_package_lists_the_fields_that_it_uses(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listed field has an effect, any other one has none, and an unknown one is an error."""
    kind = registry.KINDS[group]
    uses = {"used": ("optim.label_smoothing", "schedule.gamma"), "unknown": ("optim.smoothing",)}
    (tmp_path / f"rows_{group}.py").write_text(
        "from distdl.core.registry import Row\n"
        + "".join(f"{name} = Row(factory='json:dumps', uses={fields})\n" for name, fields in uses.items())
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint(name=name, value=f"rows_{group}:{name}", group=f"distdl.{group}") for name in uses]
    monkeypatch.setattr(registry, "entry_points", lambda group: [each for each in entries if each.group == group])
    if not kind.fields:
        with pytest.raises(UserError, match=rf"used states `uses`, which has no effect for a {kind.name}"):
            registry.find(group, "used")
        return

    def resolved(name: str, field: str) -> Config:
        others = {"loss": "json:dumps", "schedule.name": "constant"}
        return resolve(Recipe(overrides={**others, kind.where: name, field: 0.5}), strategy="single")

    assert resolved("used", "optim.label_smoothing").optim.label_smoothing == 0.5
    assert resolved("used", "schedule.gamma").schedule.gamma == 0.5
    with pytest.raises(UserError, match=r"schedule\.final_lr has no effect"):
        resolved("used", "schedule.final_lr")
    with pytest.raises(UserError, match=f"{kind.where}: unknown uses optim.smoothing, which is not a field"):
        resolved("unknown", "optim.lr")
