"""A bound on what building a network may allocate."""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from ..exceptions import ModelFileError

LEAST = 2**14  # charged for any tensor: modules and parameters are Python objects, too
_RANDOM = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


class BoundedAllocation(TorchDispatchMode):
    """Within it, torch refuses to allocate more than ``limit`` bytes in all, before doing so.

    Sizes are found by running each operation on the meta device first. Random initial values are
    not drawn, since those of the file take their place."""

    def __init__(self, limit):
        super().__init__()
        self.limit = self.left = limit

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _RANDOM:
            return args[0]
        if not func._schema.is_mutable and not func.is_view:
            self._charge(_size(func, args, kwargs))
        return func(*args, **kwargs)

    def _charge(self, n_bytes):
        self.left -= max(n_bytes, LEAST)
        if self.left < 0:
            raise ModelFileError(
                f"The network that the file describes needs more memory than the weights in it: "
                f"over {self.limit:,} bytes."
            )


def _size(func, args, kwargs):
    """Bytes of the tensors that an operation makes, which it has not made yet."""
    tensors = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, torch.Tensor)]
    device = kwargs.get("device") or (tensors[0].device if tensors else None)
    if device is not None and torch.device(device).type == "meta":
        return 0

    def on_meta(value):
        return torch.empty_like(value, device="meta") if isinstance(value, torch.Tensor) else value

    elsewhere = {"device": "meta", "generator": None, "pin_memory": None}
    names = {argument.name for argument in func._schema.arguments}
    options = kwargs | {name: value for name, value in elsewhere.items() if name in names}
    try:
        made = func(*tree_map(on_meta, args), **tree_map(on_meta, options))
    except (RuntimeError, NotImplementedError, TypeError):
        # No meta version, or sizes beyond all bounds: the largest product of sizes among the
        # arguments.
        sizes = [
            math.prod(v)
            for v in args
            if isinstance(v, list | tuple) and all(isinstance(n, int) for n in v)
        ]
        sizes += [v for v in args if isinstance(v, int)] + [t.numel() for t in tensors]
        return 8 * max(sizes, default=0)
    return sum(
        t.numel() * t.element_size() for t in tree_flatten(made)[0] if isinstance(t, torch.Tensor)
    )
