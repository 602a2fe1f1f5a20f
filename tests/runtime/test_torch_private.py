"""Uncompiled runs do not import torch's compiler, and their optimizer steps equal torch's."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from distdl.optim import optimizers
from distdl.runtime.torch_private import default_compile_cache, eager, eager_operators

WHOLE_RUN = """
import sys
from distdl.train import main
code = main(["--profile", "digits", "--max-steps", "2", "--out", sys.argv[1], "--progress", "none"])
sys.exit(code or ("the compiler was imported" if "torch._dynamo" in sys.modules else 0))
"""


def test_a_run_on_one_device_counts_flops_without_importing_the_compiler(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WHOLE_RUN, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"flops_per_step"' in (tmp_path / "run" / "result.json").read_text()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_optimizer_steps_equal_torchs(name: str) -> None:
    def trained(change) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(5, 3)
        groups = [{"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.01}]
        optimizer = change(getattr(optimizers, name)(groups))
        seen = []
        optimizer.register_step_post_hook(lambda *_: seen.append(torch.is_grad_enabled()))
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
        assert seen == [True] * 3
        return [*model.parameters(), *(value for slots in optimizer.state.values() for value in slots.values())]

    for first, second in zip(trained(eager), trained(lambda optimizer: optimizer), strict=True):
        assert torch.equal(first, torch.as_tensor(second))


def test_eager_operators_restores_torch() -> None:
    plain = torch._disable_dynamo(lambda: 1).__wrapped__
    with eager_operators():
        assert torch.relu(torch.empty(3, device="meta")).shape == (3,)
    assert not hasattr(plain, "__dynamo_disable")


def test_the_default_cache_of_compiled_code_is_in_the_folder_for_temporary_files() -> None:
    assert Path(default_compile_cache()).parent == Path(tempfile.gettempdir())
