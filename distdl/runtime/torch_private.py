"""The private parts of torch that distdl uses. Tested with torch 2.15; tests/runtime fails if one of them is missing.

torch wraps some of its functions so that a compiler does not trace them. The first call of such a function, for example
an optimizer's step or most operators on the meta device, imports the compiler, torch._dynamo. That takes three seconds
on two cores, more than everything else between `import torch` and the first step of a run. `eager` and
`eager_operators` remove these wrappers, here called shields, in a process that has not loaded the compiler.
"""

import functools
import gc
import inspect
import multiprocessing
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._C._distributed_c10d import GradBucket, PrefixStore, Store
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

__all__ = [
    "GradBucket",
    "PrefixStore",
    "Store",
    "backward_node",
    "composite_kernel",
    "copy_all",
    "device_constructors",
    "eager",
    "eager_operators",
    "end_workers",
    "extension_folder",
    "forward_node",
    "replace_wait",
    "start_workers",
    "try_next",
    "workers_of",
]

SHIELD = _disable_dynamo(lambda: None).__code__
"""Code object that all functions returned by torch's `_disable_dynamo` share (torch/_compile.py)."""


def copy_all(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    """Copy each source to its target, in one kernel if the device has one."""
    torch._foreach_copy_(list(targets), list(sources))  # pyright: ignore[reportPrivateImportUsage]


def extension_folder(name: str) -> Path:
    """Folder into which torch builds the C++ extension `name`."""
    from torch.utils.cpp_extension import _get_build_directory

    return Path(_get_build_directory(name, verbose=False))


@contextmanager
def eager_operators() -> Iterator[None]:
    """Remove the shields of torch's functions inside the context, unless the compiler is already loaded."""
    plain = [] if "torch._dynamo" in sys.modules else list(_shielded())
    for function in plain:
        setattr(function, "__dynamo_disable", function)
    try:
        yield
    finally:
        for function in plain:
            delattr(function, "__dynamo_disable")


def _shielded() -> Iterator[Callable]:
    """Yield the function behind each shield. torch stores the shield as an attribute of the function."""
    index = SHIELD.co_freevars.index("fn")
    for shield in gc.get_referrers(SHIELD):
        if isinstance(shield, types.FunctionType):
            cells = shield.__closure__ or ()
            function = cells[index].cell_contents
            if not hasattr(function, "__dynamo_disable"):
                yield function


def lerp_all(targets: Sequence[torch.Tensor], ends: Sequence[torch.Tensor], weight: float) -> None:
    """Interpolate each target linearly towards its end, in place; `weight` is the share of the distance."""
    torch._foreach_lerp_(list(targets), list(ends), weight)  # pyright: ignore[reportPrivateImportUsage]


def eager(optimizer: Optimizer) -> Optimizer:
    """Remove the shields from the methods of an optimizer. Returns the optimizer.

    torch's wrapper of `step` disables gradients, as this one does, and breaks the compiler's graph. Hooks are kept.
    """
    algorithm = torch.no_grad()(inspect.unwrap(type(optimizer).step))
    optimizer.step = types.MethodType(Optimizer.profile_hook_step(algorithm), optimizer)
    for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group"):
        method = inspect.getattr_static(type(optimizer), name)
        if getattr(method, "__code__", None) is SHIELD:
            setattr(optimizer, name, types.MethodType(method.__wrapped__, optimizer))
    return optimizer


def forward_node() -> int:
    """Sequence number of the node that autograd made last in this thread."""
    return torch.autograd._get_sequence_nr() - 1  # pyright: ignore[reportPrivateImportUsage]


def backward_node() -> int | None:
    """Sequence number of the node whose backward runs now; None outside of a node."""
    node = torch._C._current_autograd_node()
    return None if node is None else node._sequence_nr()


def composite_kernel(operator: torch._ops.OpOverload) -> Callable | None:
    """Return the C++ kernel that implements an operator by other operators; None if there is none.

    `operator.decompose` would decompose further.
    """
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key)
    return functools.partial(operator._op_dk, key) if has_kernel else None


def device_constructors() -> set[Callable]:
    """Functions that create a tensor and have a `device` argument."""
    from torch.utils._device import _device_constructors

    return _device_constructors()


def start_workers(reader: "DataLoader") -> None:
    """Start the worker processes of a DataLoader with persistent workers.

    torch's handler of SIGCHLD raises a RuntimeError anywhere in the main thread when a worker dies. It is removed: the
    caller checks the workers while it waits for a batch.

    Raises:
        OSError: if there are too few processes, files or memory; no worker remains.
    """
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGCHLD) if in_main_thread and hasattr(signal, "SIGCHLD") else None
    children = set(multiprocessing.active_children())
    try:
        iter(reader)
    except OSError as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if isinstance(unfinished := frame.f_locals.get("self"), _MultiProcessingDataLoaderIter):
                unfinished._shutdown = True  # otherwise its __del__ prints a traceback
        # Started workers ignore the SIGTERM that Python sends at exit, before it waits for them.
        for child in set(multiprocessing.active_children()) - children:
            child.kill()
            child.join()
        raise
    finally:
        if handler is not None:
            signal.signal(signal.SIGCHLD, handler)


def workers_of(reader: "DataLoader") -> list[BaseProcess]:
    """Running worker processes of a DataLoader."""
    return list(getattr(reader._iterator, "_workers", ()))


def try_next(reader: "DataLoader", seconds: float) -> tuple[bool, Any]:
    """Wait up to `seconds` for the next item of a worker. Returns whether there is one, and the item.

    Raises:
        RuntimeError: if a worker has ended.
    """
    iterator: Any = reader._iterator
    return iterator._try_get_data(seconds)


def replace_wait(reader: "DataLoader", wait: Callable[[], Any]) -> None:
    """Let a DataLoader with workers call `wait` for the next item; its own method waits without a limit."""
    iterator: Any = reader._iterator
    iterator._get_data = wait


def end_workers(reader: "DataLoader") -> None:
    """End the worker processes of a DataLoader, by SIGKILL if necessary."""
    iterator: Any = reader._iterator
    reader._iterator = None
    workers = list(getattr(iterator, "_workers", ()))
    if workers:
        iterator._shutdown_workers()
    for worker in workers:
        if worker.is_alive():
            worker.kill()
        worker.join()


def default_compile_cache() -> str:
    """The folder in which torch.compile keeps compiled code unless TORCHINDUCTOR_CACHE_DIR names another one."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return default_cache_dir()
