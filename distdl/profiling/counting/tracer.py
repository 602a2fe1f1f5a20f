"""Conversion of the operators that a module runs to rows of the layer table."""

import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from math import prod
from types import CodeType
from typing import Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from distdl.perf.cost.layers import Layer
from distdl.profiling.counting.kinds import ALLOCATIONS, kind_of
from distdl.profiling.counting.rules import FUNCTIONS, OPERATORS
from distdl.profiling.counting.work import OperatorWork, ProductFactor

_CHECKPOINT = inspect.unwrap(torch.utils.checkpoint.checkpoint).__code__


class CallContext(NamedTuple):
    """Functions above an operator in the call stack."""

    functions: list[type]
    """Custom autograd functions, in whose forward pass torch records no graph."""
    checkpointed: bool
    """Whether the operator runs under activation checkpointing."""

    @property
    def gradients(self) -> bool:
        """Whether gradients of the operator may be computed."""
        return bool(self.functions) or torch.is_grad_enabled()


class Tracer:
    """Collects the layers and warnings of one forward pass, which `modes.watched` reports to it."""

    def __init__(self, model: nn.Module, dtype_bytes: int) -> None:
        self.dtype_bytes = dtype_bytes
        self.layers: list[Layer] = []
        self._stack = [""]
        self._names = {module: name for name, module in model.named_modules()}
        self._unknown: set[str] = set()
        self._custom: dict[type, int] = defaultdict(int)
        self._recomputed: dict[str, int] = defaultdict(int)
        self._uncounted: dict[int, Tensor] = {}
        self._owners: dict[int, list[str]] = defaultdict(list)
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self._uncounted[_storage(parameter)] = parameter
            self._owners[_storage(parameter)].append(name.rpartition(".")[0])
        # Inside a custom autograd function torch records no graph: tensors that need a gradient there are recognized
        # by their storage, which is kept alive so that its address is not reused.
        self._graphless: dict[int, Any] = {}
        self._forwards = {code: cls for cls in _subclasses(torch.autograd.Function) if (code := _code(cls.forward))}

    def enter(self, module: nn.Module) -> None:
        """Report that a module's forward begins."""
        self._stack.append(self._names.get(module, self._stack[-1]))

    def leave(self) -> None:
        """Report that the current module's forward ends."""
        self._stack.pop()

    def operator(self, operator: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add a row for one operator of the dispatcher."""
        tensors = _tensors((args, kwargs))
        results = _tensors(out)
        context = self._call_context()
        self._follow(tensors, results, context)
        name = str(operator._overloadpacket)
        if not tensors or name.removeprefix("aten.") in ALLOCATIONS or _is_view(operator, tensors, results):
            return
        if rule := OPERATORS.get(name):
            work, certain = rule(out, *args, **kwargs), True
        else:
            kind, certain = kind_of(name, operator)
            work = OperatorWork(kind)
        if not certain:
            self._unknown.add(name)
        self.row(name.rpartition(".")[2], work, tensors, results, context)

    def function(self, function: Callable[..., Any], out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add a row for one function of `FUNCTIONS`."""
        tensors = _tensors((args, kwargs))
        context = self._call_context()
        self._follow(tensors, _tensors(out), context)
        self.row(function.__name__, FUNCTIONS[function](out, *args, **kwargs), tensors, _tensors(out), context)

    def row(
        self, name: str, work: OperatorWork, tensors: list[Tensor], results: list[Tensor], context: CallContext
    ) -> None:
        """Add a row for one call with its work.

        Args:
            name: the operator's name.
            tensors: its tensor arguments.
            results: its tensor results.
        """
        if not work.products and sum(result.numel() for result in results) <= 1:
            return  # a counter, such as that of batch norm
        forward = sum(product.flops for product in work.products)
        by_input = by_weight = 0
        parameters = [tensor for tensor in tensors if _storage(tensor) in self._owners]
        for product in work.products:
            for factor in product.factors:
                if context.gradients and self._needs_gradient(factor):
                    if self._is_weight(factor):
                        by_weight += product.flops
                    else:
                        by_input += product.flops
        kind = work.kind
        if kind == "attention" and any(self._is_weight(f) for product in work.products for f in product.factors):
            kind = "dense"
        owner = self._owner(parameters) or f"({name})"
        for function in context.functions:
            self._custom[function] += forward
        if context.checkpointed:
            self._recomputed[owner] += forward
        self.layers.append(
            Layer(
                name=owner,
                kind=kind,
                input_shape=tuple((tensors[0] if work.input is None else work.input).shape),
                output_shape=tuple(results[0].shape) if results else (),
                parameters=self._count_parameters(parameters),
                forward_flops=forward,
                input_grad_flops=by_input,
                weight_grad_flops=by_weight,
                read_bytes=self._read(work, tensors),
                write_bytes=self._bytes(results[:1]),
                geometry={"op": name} | work.geometry,
            )
        )

    def not_run(self) -> Iterator[Layer]:
        """Yield a row for each module with parameters that no operator read, as an auxiliary head in evaluation."""
        modules: dict[str, int] = defaultdict(int)
        for storage, parameter in self._uncounted.items():
            modules[self._owners[storage][0] or "(parameters)"] += parameter.numel()
        for name, parameters in modules.items():
            yield Layer(name=name, kind="other", input_shape=(), output_shape=(), parameters=parameters,
                        geometry={"op": "none", "note": "not run at this input"})  # fmt: skip

    @property
    def warnings(self) -> Iterator[str]:
        """Sentences about operations that are not counted, or counted by assumption."""
        for name in sorted(self._unknown):
            yield f"operator {name} has no rule: counted as 0 FLOPs"
        for function, flops in self._custom.items():
            if function is torch.utils.checkpoint.CheckpointFunction:
                continue
            yield (
                f"{function.__qualname__} is a custom autograd function: its forward has {flops:,} FLOPs, and its "
                "backward is assumed to be that of the same operators"
            )
        if self._recomputed:
            yield (
                f"checkpointing recomputes {sum(self._recomputed.values()):,} FLOPs of the forward pass in backward "
                f"({len(self._recomputed)} modules, the first is {next(iter(self._recomputed))}), which are not in "
                "training_flops"
            )
        if self._uncounted:
            count = sum(parameter.numel() for parameter in self._uncounted.values())
            yield f"{count:,} parameters are not used with this input; they count as parameters, without FLOPs"

    def _owner(self, parameters: Iterable[Tensor]) -> str:
        """Return the name of the running module, or of the submodule whose parameters a functional call reads."""
        running = self._stack[-1]
        for parameter in parameters:
            owners = self._owners[_storage(parameter)]
            if running in owners:
                return running
            prefix = f"{running}." if running else ""
            if inside := next((owner for owner in owners if owner.startswith(prefix) and owner), None):
                return inside
        return running

    def _count_parameters(self, parameters: Iterable[Tensor]) -> int:
        parameters_read = (self._uncounted.pop(_storage(parameter), None) for parameter in parameters)
        return sum(parameter.numel() for parameter in parameters_read if parameter is not None)

    def _is_weight(self, factor: ProductFactor) -> bool:
        return any(_storage(t) in self._owners for t in factor.tensors) if factor.weight is None else factor.weight

    def _call_context(self) -> CallContext:
        functions, checkpointed = [], False
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code is _CHECKPOINT:
                checkpointed = True
            elif cls := self._forwards.get(frame.f_code):
                functions.append(cls)
            frame = frame.f_back
        return CallContext(functions, checkpointed)

    def _needs_gradient(self, factor: ProductFactor) -> bool:
        return any(tensor.requires_grad or _storage(tensor) in self._graphless for tensor in factor.tensors)

    def _follow(self, tensors: list[Tensor], results: list[Tensor], context: CallContext) -> None:
        for function in context.functions:
            self._custom[function] += 0
        if context.functions and any(tensor.requires_grad or _storage(tensor) in self._graphless for tensor in tensors):
            self._graphless |= {_storage(result): result.untyped_storage() for result in results}

    def _read(self, work: OperatorWork, tensors: list[Tensor]) -> int:
        if work.read is None:
            return self._bytes(tensors)
        return work.read * self.dtype_bytes + self._bytes([t for t in tensors if not t.is_floating_point()])

    def _bytes(self, tensors: Iterable[Tensor]) -> int:
        """Return the bytes of the distinct elements: expanded dimensions, with stride 0, count once."""
        total = 0
        for tensor in tensors:
            size = self.dtype_bytes * (1 + tensor.is_complex())
            if not (tensor.is_floating_point() or tensor.is_complex()):
                size = tensor.element_size()
            total += size * prod(n for n, step in zip(tensor.shape, tensor.stride(), strict=True) if step)
        return total


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in type.__subclasses__(cls):
        yield subclass
        yield from _subclasses(subclass)


def _code(function: Callable[..., Any]) -> CodeType | None:
    return getattr(inspect.unwrap(function), "__code__", None)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_view(operator: Any, tensors: list[Tensor], results: list[Tensor]) -> bool:
    """Whether all results are views of arguments and no argument is modified, so that no data is moved."""
    if operator._schema.is_mutable:
        return torch.Tag.inplace_view in operator.tags
    sources = {_storage(tensor) for tensor in tensors}
    return all(_storage(result) in sources for result in results)
