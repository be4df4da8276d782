"""What serves after a training: the network in its smallest form, its bytes, what of its
architecture it tells itself, and its device.
"""

import torch

from ..base import fixed_methods
from ..nn import Members, PackedPart, tensor_bytes
from ..nn._parts import KINDS
from ._net import FieldNet
from ._slots import packed_entries

__all__ = [
    "bytes_by_kind",
    "compact",
    "device_of",
    "parts_of",
    "resolve_device",
    "serving_net",
    "stored_architecture",
    "whole_architecture",
]

TABLES = ("embedding", "numeric")  # slots whose parts are tables, if they do not say otherwise


def compact(module):
    """Replace every part that has a smaller form for serving; returns the module."""
    for name, child in list(module.named_children()):
        setattr(module, name, child.compact() if hasattr(child, "compact") else compact(child))
    return module


def serving_net(module, loss):
    """A skorch net that holds the module in its serving form and nothing of its training."""
    device = next(module.parameters()).device
    return FieldNet(compact(module).to(device), loss).initialize().discard_training_state()


def bytes_by_kind(module, slots=None):
    """Bytes of a module by purpose: dict of "embedding", "projection", "index", "network" and
    "total".

    Parts say by ``nbytes()`` what they hold (see `sklearn_autorec.nn.PackedPart`), wherever they
    stand. Of others the parameters and the buffers of their state count: as "embedding" and "index"
    in the slots of tables, else as "network". What is shared counts once.

    Parameters
    ----------
    module : nn.Module
    slots : sequence of str or None
        Slots of tables whose parts alone count; None counts everything.
    """
    nbytes, counted = dict.fromkeys(KINDS, 0), set()

    def count(part, kinds):
        if id(part) in counted:
            return
        if hasattr(part, "nbytes"):
            counted.update(map(id, (*part.modules(), *part.parameters())))
            for kind, own in part.nbytes().items():
                nbytes[kind] += own
            return
        counted.add(id(part))
        state = part._parameters.items(), part._buffers.items()
        for kind, tensors in zip(kinds, state, strict=True):
            for name, t in tensors:
                kept = t is not None and name not in part._non_persistent_buffers_set
                if kept and id(t) not in counted:
                    counted.add(id(t))
                    nbytes[kind] += tensor_bytes([t])
        for child in part.children():
            count(child, kinds)

    for network in module.networks if isinstance(module, Members) else [module]:
        for name, child in network.named_children():
            if name in (TABLES if slots is None else slots):
                count(child, ("embedding", "index"))
        if slots is None:
            count(network, ("network", "network"))
    return {**nbytes, "total": sum(nbytes.values())}


def parts_of(module):
    """Parts of a network by slot; of several members, those of the first: what was found is the
    same in all.
    """
    network = module.networks[0] if isinstance(module, Members) else module
    return dict(network.named_children())


def _told(architecture, module):
    """Functions that read entries of an architecture off packed parts, by slot and key."""
    parts, told = parts_of(module), {}
    for method in fixed_methods(architecture):
        for slot, entries in packed_entries(method).items():
            if entries and isinstance(parts.get(slot), PackedPart):
                told[slot] = entries
    return told


def stored_architecture(architecture, module):
    """The architecture as an estimator keeps it beside its network: what packed parts tell is None,
    so that nothing is stored twice.
    """
    told = _told(architecture, module)
    return architecture | {slot: architecture[slot] | dict.fromkeys(told[slot]) for slot in told}


def whole_architecture(architecture, module):
    """The stored architecture with what packed parts tell."""
    told, parts, whole = _told(architecture, module), parts_of(module), dict(architecture)
    for slot, entries in told.items():
        whole[slot] = {**whole[slot], **{key: read(parts[slot]) for key, read in entries.items()}}
    return whole


def device_of(net):
    """Where the parameters of a net lie."""
    return next(net.module_.parameters()).device


def resolve_device(device):
    """The device that the parameter ``device`` means.

    Raises
    ------
    ValueError
        If it is no device, or one that torch does not see here.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a device: give 'auto', 'cpu', 'cuda' or 'cuda:1'."
        ) from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r}, but torch sees no CUDA device here; give 'auto' or 'cpu'."
        )
    return resolved
