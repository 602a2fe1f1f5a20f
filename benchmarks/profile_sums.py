"""Sum of separately measured layer times compared with the network's time: by `distdl profile`, and the naive way.

python benchmarks/profile_sums.py [--rounds 5]
"""

import argparse

import torch
import torchvision
from timing import markdown_table, write_result

from distdl.profiling import layers

SUBJECTS = {"resnet18": 8, "alexnet": 16, "vgg11": 4, "resnet50": 4, "mobilenet_v2": 8, "vit_b_16": 2}
"""Batch sizes by network."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows = []
    for name, batch in SUBJECTS.items():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name)
        times = layers.measure(model, torch.randn(batch, 3, 224, 224), rounds=rounds)
        total_s = times.total.step_s
        sums = (times.layer_sum.step_s, times.naive_sum.step_s)
        rows.append(
            [f"{name}, batch {batch}", f"{1e3 * total_s:,.1f}"]
            + [cell for seconds in sums for cell in (f"{1e3 * seconds:,.1f}", f"{seconds / total_s - 1:+.1%}")]
        )
        print(rows[-1], flush=True)
    head = ["network", "step, ms", "sum of layers", "off by", "naive sum", "off by"]
    text = f"fp32, 224 px, medians of {rounds} rounds, interleaved.\n\n{markdown_table(head, rows)}"
    print(write_result("profile", "cpu", text, "torch", "torchvision"))


if __name__ == "__main__":
    main()
