"""Comparison of FLOP counters for the same networks with multiply-adds derived by hand in this file.

    python benchmarks/flop_counters.py [--tools distdl fvcore ...]

Each counter runs in its own process, on the CPU, as documented; one that is not installed is omitted,
and a failure on a case is shown in the table. Writes benchmarks/results/flop_counters_cpu_DATE.md.
"""

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from timing import markdown_table, write_result
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def alexnet() -> int:
    convolutions = [(55, 64, 3, 11), (27, 192, 64, 5), (13, 384, 192, 3), (13, 256, 384, 3), (13, 256, 256, 3)]
    return sum(size**2 * out * width * k**2 for size, out, width, k in convolutions) + (
        256 * 6 * 6 * 4096 + 4096 * 4096 + 4096 * 1000
    )


def vgg19() -> int:
    macs, width = 0, 3
    for size, out, repeats in [(224, 64, 2), (112, 128, 2), (56, 256, 4), (28, 512, 4), (14, 512, 4)]:
        for _ in range(repeats):
            macs, width = macs + size**2 * out * width * 9, out
    return macs + 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000


def resnet50() -> int:
    macs, width, size = 112**2 * 64 * 3 * 49, 64, 56
    for stage, (inner, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(blocks):
            previous_size, size = size, size // 2 if stage and not block else size
            macs += previous_size**2 * width * inner + size**2 * (inner * inner * 9 + inner * 4 * inner)
            macs += 0 if block else size**2 * width * 4 * inner
            width = 4 * inner
    return macs + 2048 * 1000


def mobilenet_v2() -> int:
    macs, width, size = 112**2 * 32 * 3 * 9, 32, 112
    for expansion, out, repeats, stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for block in range(repeats):
            inner, previous_size = width * expansion, size
            size = size // stride if not block else size
            macs += 0 if expansion == 1 else previous_size**2 * width * inner
            macs += size**2 * inner * 9 + size**2 * inner * out
            width = out
    return macs + 49 * 320 * 1280 + 1280 * 1000


def vit_b_16() -> int:
    tokens, width, inner = 197, 768, 3072
    layer = tokens * width * (3 * width + width + 2 * inner) + 2 * tokens**2 * width
    return 196 * width * 3 * 16**2 + 12 * layer + width * 1000


class Call(nn.Module):
    """A function of tensors as a module. It looks up torch's functions when it runs, as some counters replace them."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(1))  # some counters fail on a module without parameters

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(32, 64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A module, its input, and its multiply-adds per sample, derived by hand."""

    build: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]
    macs: int
    under: Callable[[], AbstractContextManager] = nullcontext
    """Context in which the caller runs it."""


def network(name: str, macs: int) -> Case:
    build = lambda: torchvision.models.get_model(name, weights=None).eval()  # noqa: E731
    return Case(build=build, inputs=((1, 3, 224, 224),), macs=macs)


LENGTH, WIDTH, HEADS = 32, 64, 4
PAIRS = LENGTH * LENGTH
MULTIHEAD = LENGTH * WIDTH * 4 * WIDTH + 2 * PAIRS * WIDTH
RECURRENT = LENGTH * WIDTH * (WIDTH + WIDTH)
QUERY, SEQUENCE, VECTOR = (1, HEADS, LENGTH, WIDTH), (1, LENGTH, WIDTH), (WIDTH,)

CASES: dict[str, Case] = {
    "alexnet": network("alexnet", alexnet()),
    "vgg19": network("vgg19", vgg19()),
    "resnet50": network("resnet50", resnet50()),
    "mobilenet_v2": network("mobilenet_v2", mobilenet_v2()),
    "vit_b_16": network("vit_b_16", vit_b_16()),
    "depthwise convolution": Case(
        build=lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64), inputs=((1, 64, 16, 16),), macs=16 * 16 * 64 * 9
    ),
    "transposed convolution": Case(
        build=lambda: nn.ConvTranspose2d(64, 32, 2, stride=2), inputs=((1, 64, 8, 8),), macs=8 * 8 * 64 * 32 * 4
    ),
    "a layer used twice": Case(build=Twice, inputs=((1, 64),), macs=2 * 64 * 64),
    "F.linear": Case(build=Functional, inputs=((1, 64),), macs=64 * 32),
    "linear, inference_mode": Case(
        build=lambda: nn.Linear(64, 32), inputs=((1, 64),), macs=64 * 32, under=torch.inference_mode
    ),
    "compiled linear": Case(build=lambda: torch.compile(nn.Linear(64, 32)), inputs=((1, 64),), macs=64 * 32),
    "attention": Case(
        build=lambda: Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v)),
        inputs=(QUERY,) * 3, macs=2 * HEADS * PAIRS * WIDTH,
    ),
    "attention, causal": Case(
        build=lambda: Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        inputs=(QUERY,) * 3, macs=2 * HEADS * (LENGTH * (LENGTH + 1) // 2) * WIDTH,
    ),
    "attention, grouped queries": Case(
        build=lambda: Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)),
        inputs=(QUERY, (1, 1, LENGTH, WIDTH), (1, 1, LENGTH, WIDTH)), macs=2 * HEADS * PAIRS * WIDTH,
    ),
    "attention as q @ k.T": Case(
        build=lambda: Call(lambda q, k, v: (q @ k.mT).softmax(-1) @ v), inputs=(QUERY,) * 3,
        macs=2 * HEADS * PAIRS * WIDTH,
    ),
    "nn.MultiheadAttention": Case(
        build=lambda: SelfAttention(WIDTH, HEADS, batch_first=True), inputs=(SEQUENCE,), macs=MULTIHEAD
    ),
    "nn.MultiheadAttention, eval, no_grad": Case(
        build=lambda: SelfAttention(WIDTH, HEADS, batch_first=True).eval(), inputs=(SEQUENCE,), macs=MULTIHEAD,
        under=torch.no_grad,
    ),
    "nn.LSTM": Case(build=lambda: nn.LSTM(WIDTH, WIDTH, batch_first=True), inputs=(SEQUENCE,), macs=4 * RECURRENT),
    "nn.GRU": Case(build=lambda: nn.GRU(WIDTH, WIDTH, batch_first=True), inputs=(SEQUENCE,), macs=3 * RECURRENT),
    "nn.Bilinear": Case(
        build=lambda: nn.Bilinear(16, 24, 32), inputs=((1, 16), (1, 24)), macs=32 * 16 * 24 + 32 * 24
    ),
    "torch.mv": Case(build=lambda: Call(lambda a, b: torch.mv(a, b)), inputs=((32, WIDTH), VECTOR), macs=32 * WIDTH),
    "torch.dot": Case(build=lambda: Call(lambda a, b: torch.dot(a, b)), inputs=(VECTOR, VECTOR), macs=WIDTH),
    "torch.einsum": Case(
        build=lambda: Call(lambda a, b: torch.einsum("nij,nkj->nik", a, b)), inputs=(SEQUENCE, SEQUENCE),
        macs=PAIRS * WIDTH,
    ),
}  # fmt: skip

TRAINING = {
    "alexnet": 3 * alexnet() - 55**2 * 64 * 3 * 11**2,
    "resnet50": 3 * resnet50() - 112**2 * 64 * 3 * 49,
    "mobilenet_v2": 3 * mobilenet_v2() - 112**2 * 32 * 3 * 9,
    "vit_b_16": 3 * vit_b_16() - 196 * 768 * 3 * 16**2,
    "depthwise convolution": 2 * CASES["depthwise convolution"].macs,
}
"""Forward and both gradients, without the gradient with respect to the images, which is not needed."""


def by_distdl(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from distdl.profiling.counting.count import count

    return count(module, inputs=inputs, training=module.training).forward_flops / 2


def by_torch(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() / 2


def by_fvcore(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, inputs)  # its flop is a multiply-add
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def by_torchinfo(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from torchinfo import summary

    return summary(module, input_data=list(inputs), verbose=0).total_mult_adds


def by_thop(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from thop import profile

    return profile(module, inputs=inputs, verbose=False)[0]


def by_ptflops(module: nn.Module, inputs: tuple[Tensor, ...], backend: str = "pytorch") -> float:
    from ptflops import get_model_complexity_info

    class Several(nn.Module):  # ptflops passes inputs by name
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, **named: Tensor) -> Tensor:
            return self.module(*named.values())

    named = {f"input{place}": tensor for place, tensor in enumerate(inputs)}
    macs, _ = get_model_complexity_info(
        Several(), (1,), input_constructor=lambda _: named, as_strings=False, print_per_layer_stat=False,
        verbose=False, backend=backend,
    )  # fmt: skip
    if macs is None:
        raise RuntimeError("gives None")
    return macs


def by_deepspeed(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from deepspeed.profiling.flops_profiler import get_model_profile

    mode = "forward"
    _, macs, _ = get_model_profile(
        module, args=list(inputs), print_profile=False, as_string=False, warm_up=0, mode=mode
    )
    return macs


def training_by_distdl(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from distdl.profiling.counting.count import count

    return count(module, inputs=inputs).training_flops / 2


def training_by_torch(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        module(*inputs).sum().backward()
    return counter.get_total_flops() / 2


Counter = Callable[[nn.Module, tuple[Tensor, ...]], float]
TOOLS: dict[str, tuple[str, Counter, Counter | None]] = {
    "distdl": ("torch", by_distdl, training_by_distdl),
    "torch.utils.flop_counter": ("torch", by_torch, training_by_torch),
    "fvcore": ("fvcore", by_fvcore, None),
    "torchinfo": ("torchinfo", by_torchinfo, None),
    "thop": ("thop", by_thop, None),
    "ptflops": ("ptflops", by_ptflops, None),
    "ptflops, aten": ("ptflops", partial(by_ptflops, backend="aten"), None),
    "DeepSpeed": ("deepspeed", by_deepspeed, None),
}
"""Package, counter of the forward pass and, if supported, counter of a training step; all in multiply-adds."""


def measure(tool: str) -> dict[str, dict[str, float | str]]:
    """Return the multiply-adds that `tool` counts for each case, or the reason why there are none."""
    _, forward, training = TOOLS[tool]
    figures: dict[str, dict[str, float | str]] = {"forward": {}, "training": {}}
    for kind, names, counter in (("forward", CASES, forward), ("training", TRAINING, training)):
        for name in names if counter else ():
            case = CASES[name]
            torch._dynamo.reset()
            module, inputs = case.build(), tuple(torch.randn(shape) for shape in case.inputs)
            try:
                with case.under():
                    figures[kind][name] = float(counter(module, inputs))
            except Exception as error:
                figures[kind][name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:100]}"
    return figures


def measured_in_process(tool: str) -> dict[str, dict[str, float | str]] | None:
    """Run `measure` in a separate process (some counters replace functions of torch); None without the package."""
    code = f"import json, flop_counters; print(json.dumps(flop_counters.measure({tool!r})))"
    paths = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{tool} is omitted: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def cell(figure: float | str, truth: int, notes: list[str]) -> str:
    """Format the result as a multiple of the exact value: a check mark if it is exact, a note below if it failed."""
    if isinstance(figure, str):
        if figure not in notes:
            notes.append(figure)
        return f"fails [{notes.index(figure) + 1}]"
    if figure == truth:
        return "exact"
    ratio = figure / truth
    return "0" if not figure else f"{ratio:.3f}" if ratio < 10 else f"{ratio:.1f}"


def table(truths: Mapping[str, int], figures: Mapping[str, Mapping[str, float | str]], notes: list[str]) -> str:
    rows = [
        [name, f"{truth:,}", *(cell(counts[name], truth, notes) for counts in figures.values())]
        for name, truth in truths.items()
    ]
    return markdown_table(["", "multiply-adds", *figures], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    tools = parser.parse_args().tools
    figures = {tool: counts for tool in tools if (counts := measured_in_process(tool))}
    notes: list[str] = []
    forward = table({name: case.macs for name, case in CASES.items()},
                    {tool: counts["forward"] for tool, counts in figures.items()}, notes)  # fmt: skip
    training = table(
        TRAINING, {tool: counts["training"] for tool, counts in figures.items() if counts["training"]}, notes
    )
    text = (
        "The exact multiply-adds are derived in the script from each network's published shapes. The columns are each "
        "counter's result relative to these, converted to multiply-adds: one is 1 flop for fvcore and 2 for torch's "
        "counter. Some include other work intentionally: norms, activations, biases. For causal attention, only pairs "
        "of a query and a key that are not masked count, as in fused kernels.\n\n"
        f"## Forward, one sample\n\n{forward}\n\n## Forward and backward\n\n{training}\n"
    )
    if notes:
        text += "\n" + "\n".join(f"[{place}] {note}  " for place, note in enumerate(notes, 1)) + "\n"
    packages = dict.fromkeys(["torch", "torchvision", *(TOOLS[tool][0] for tool in figures)])
    print(write_result("flop_counters", "cpu", text, *packages).read_text(encoding="utf-8"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
