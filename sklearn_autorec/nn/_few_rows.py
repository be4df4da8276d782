"""A few rows of a table, as a service asks for them, read by numpy.

A call of torch takes some microseconds whatever it does, which is most of what a few rows take; a
call of numpy takes a fraction of that. What is read are the same numbers, to the bit.
"""

import weakref

import numpy as np
import torch

# Rows of tables (those of a batch times its fields) up to which numpy is quicker.
FEW = 512

# Arrays of a module, beside it: they must be in no pickle and no copy. The key of each entry are
# the places of its tensors, which change where a module is moved or grows. Arrays keep the memory
# that they show, so that no other tensor can come to lie in the same place.
_ARRAYS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


_PLACE = torch.Tensor.data_ptr


def reads_few(rows):
    """Whether rows of a table (...) are few, and read by a prediction: in torch's inference mode
    alone, on a CPU, and in no graph that is being made.
    """
    return (
        torch.is_inference_mode_enabled()
        and 0 < rows.numel() <= FEW
        and rows.is_cpu
        and not torch.compiler.is_compiling()
    )


def arrays_of(module):
    """Parameters and buffers of a module itself by name, as ndarrays that share their memory.

    The dict stays as long as the tensors do: what follows from them may be added to it.
    """
    own, buffers = module._parameters, module._buffers
    places = (*own, *map(_PLACE, own.values()), *buffers, *map(_PLACE, buffers.values()))
    known = _ARRAYS.get(module)
    if known is None or known[0] != places:
        tensors = {**own, **buffers}
        known = places, {name: t.detach().numpy() for name, t in tensors.items()}
        _ARRAYS[module] = known
    return known[1]


def read_distinct_end(rows, read):
    """What ``read`` gives for rows (B, n), where rows at the end that are equal are read once.

    A batch is filled up with rows of zeros: of a single row they would be most of the work.

    Parameters
    ----------
    rows : int ndarray (B, n)
        Arrays of other dimensions are read as they are.
    read : callable
        Such an array to an ndarray (B, n, ...).
    """
    if rows.ndim != 2 or len(rows) < 3 or not rows.shape[1]:
        return read(rows)
    # Ids behind the last that differs from that of its field in the last row; 0 if none does.
    n_behind = int((rows != rows[-1]).ravel()[::-1].argmax())
    n = len(rows) - n_behind // rows.shape[1] + 1 if n_behind else 1
    found = read(rows[:n])
    if n == len(rows):
        return found
    out = np.empty((len(rows), *found.shape[1:]), found.dtype)
    out[:n] = found
    out[n:] = found[n - 1]
    return out


def pick(values, where, present):
    """Stored numbers by positions (...), 0 where nothing is stored; ndarrays, the last of bool."""
    if not len(values):
        return np.zeros(np.broadcast_shapes(where.shape, present.shape), values.dtype)
    return np.where(present, values.take(where, mode="clip"), values.dtype.type(0))
