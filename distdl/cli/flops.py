"""`distdl flops MODEL`: the layer table of a network, as a table, JSON or CSV."""

import csv as csv_module
import json as json_module
import sys
from collections.abc import Sequence
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from distdl.core.config import ComponentOptions, Count
from distdl.core.console import PlainConsole
from distdl.core.errors import UserError
from distdl.core.registry import NO_OPTIONS
from distdl.core.text import csv_cell, print_line
from distdl.perf.cost.conventions import Convention, lu2017
from distdl.perf.cost.grouping import LayerGroup, by_kind, by_module
from distdl.perf.cost.layers import Layer, Network

FIELDS = (
    "parameters", "forward_flops", "input_grad_flops", "weight_grad_flops", "training_flops", "read_bytes",
    "write_bytes", "intensity",
)  # fmt: skip
HEADS = {
    "parameters": "params", "forward_flops": "fwd", "input_grad_flops": "dgrad", "weight_grad_flops": "wgrad",
    "read_bytes": "read", "write_bytes": "write", "intensity": "FLOP/B",
}  # fmt: skip
GRADIENTS = ("input_grad_flops", "weight_grad_flops")


def flops(
    model: tyro.conf.Positional[str],
    *,
    input: str = "",
    batch: Count = 0,
    training: bool = False,
    by: Literal["layer", "kind", "module"] = "layer",
    convention: Convention = "standard",
    options: ComponentOptions = NO_OPTIONS,
    json: bool = False,
    csv: bool = False,
) -> None:
    """Count a network's FLOPs, parameters and bytes, without weights or a device.

    FLOPs are those of multiply-adds, 2 each; biases, norms, activations and pools take bytes. Bytes are those of
    the forward pass in the parameters' own type, inputs and weights read once, outputs written once.

    Args:
        model: a network of distdl or torchvision, a profile, or package.module:callable.
        input: shape of one sample, as 3x224x224; "128:int" for 128 token numbers; several inputs with commas between.
            Default: that of the profile, or of torchvision's published weights.
        batch: samples per batch; default: the profile's batch size, or 1.
        training: run as in training (auxiliary heads, dropout) and show both gradients: dgrad by the input, wgrad by
            the weights.
        by: rows of the table: layers in the order in which they run, kinds of layer, or modules with their parts.
        convention: standard counts 2 FLOPs per multiply-add; lu2017 counts as Lu et al. 2017.
        options: settings of a network of another package, model.NAME=VALUE.
        json: print a JSON object.
        csv: print the rows as CSV.
    """
    if json and csv:
        raise UserError("--json and --csv: choose one")
    if convention == "lu2017" and training:
        raise UserError("--convention lu2017 counts only the forward pass: remove --training")
    network = _count(model, input, batch, training, options)
    if convention == "lu2017":
        network = lu2017(network)
    if json:
        shares = {group.name: group.forward_share for group in by_kind(network)}
        print(json_module.dumps(network.as_dict() | {"convention": convention, "forward_share": shares}))
        return
    rows = {"layer": lambda n: n.layers, "kind": by_kind, "module": by_module}[by](network)
    if csv:
        _write_csv(rows)
        for warning in network.warnings:
            print_line(f"warning: {warning}", to_stderr=True)
        return
    console = PlainConsole()
    _show(console, network, rows, by, training)
    console.print()
    console.print(_summary(network, convention))
    if by != "kind":
        shares = ", ".join(
            f"{group.name} {group.forward_share:.2%}" for group in by_kind(network) if group.forward_flops
        )
        console.print(f"forward FLOPs by kind: {shares}")
    for warning in network.warnings:
        console.print(f"warning: {warning}", style="yellow")


def _count(model: str, input: str, batch: int, training: bool, options: ComponentOptions) -> Network:
    import torch

    from distdl.planner.workload import named
    from distdl.profiling.counting.count import count

    shapes = parse_inputs(input)
    subject = named(model, shapes[0][0] if shapes else None, options)
    batch = batch or subject.batch
    inputs = None
    if len(shapes) > 1 or any(integers for _, integers in shapes):
        kinds = {True: torch.int64, False: torch.float32}
        inputs = [torch.empty(batch, *shape, dtype=kinds[integers], device="meta") for shape, integers in shapes]
    return count(subject.module, subject.input_shape, batch, training=training, inputs=inputs, name=subject.name)


def parse_inputs(text: str) -> list[tuple[tuple[int, ...], bool]]:
    """ "3x224x224" or "128:int" or several with commas, as (shape of a sample, whether integers)."""
    inputs = []
    for part in filter(None, text.split(",")):
        shape, _, kind = part.partition(":")
        try:
            sizes = tuple(int(size) for size in shape.lower().split("x"))
        except ValueError:
            sizes = ()
        if not sizes or min(sizes) < 1 or kind not in ("", "int"):
            raise UserError(f'--input "{part}" is not a shape: write it as 3x224x224, or as 128:int for token numbers')
        inputs.append((sizes, kind == "int"))
    return inputs


def _write_csv(rows: Sequence[Layer] | Sequence[LayerGroup]) -> None:
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    heads = ("kind", "input_shape", "output_shape") if isinstance(rows[0], Layer) else ("layers", "forward_share")
    writer.writerow(["name", *heads, *FIELDS])
    writer.writerows(map(csv_cell, _csv_cells(row)) for row in rows)


def _csv_cells(row: Layer | LayerGroup) -> list[object]:
    values = [getattr(row, field) for field in FIELDS]
    if isinstance(row, Layer):
        return [row.name, row.kind, _by(row.input_shape), _by(row.output_shape), *values]
    return [row.name, row.layers, row.forward_share, *values]


def _show(
    console: Console, network: Network, rows: Sequence[Layer] | Sequence[LayerGroup], by: str, training: bool
) -> None:
    fields = [field for field in HEADS if training or field not in GRADIENTS]
    starts = ("kind", "output") if by == "layer" else ("layers", "share")
    cells = [[row.name, *_start(row), *(_amount(getattr(row, field)) for field in fields)] for row in rows]
    heads = [by, *starts, *(HEADS[field] for field in fields)]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    room = max(console.width - sum(widths[1:]) - len(widths), 10)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place == 0 or head == "kind" else "right", no_wrap=True)
    for name, *rest in cells:
        table.add_row(name if len(name) <= room else "…" + name[1 - room :], *rest)  # its end identifies the layer
    console.print(table)


def _start(row: Layer | LayerGroup) -> tuple[str, str]:
    if isinstance(row, Layer):
        return row.kind, _by(row.output_shape[1:] or row.output_shape)
    return str(row.layers), f"{row.forward_share:.2%}" if row.forward_flops else "·"


def _summary(network: Network, convention: str) -> str:
    sizes = f"{network.model}, batch {network.batch} of {_by(network.input)}: {network.parameters:,} parameters"
    if convention == "lu2017":
        return f"{sizes}; {network.forward_flops / 1e6:,.0f} million operations as Lu et al. 2017 count them"
    return (
        f"{sizes}; {network.forward_flops:,} FLOPs forward ({network.forward_flops // 2:,} multiply-adds), "
        f"{network.training_flops:,} forward and backward"
    )


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _amount(value: float) -> str:
    """Three digits and a decimal prefix; a dot for nothing."""
    power = 0
    while value >= 999.5:
        value, power = value / 1000, power + 1
    digits = f"{value:.0f}" if value >= 99.5 or value == int(value) else f"{value:.3g}"
    return digits + " kMGTPE"[power].strip() if value else "·"
