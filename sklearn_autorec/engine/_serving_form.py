"""What serves after a training: the network in its smallest form, its bytes and its device."""

import torch

from ..nn import Members
from ._net import FieldNet

__all__ = ["compact", "device_of", "resolve_device", "serving_net", "sizes"]


def compact(module):
    """Replace every part that has a smaller form for serving; returns the module."""
    for name, child in list(module.named_children()):
        setattr(module, name, child.compact() if hasattr(child, "compact") else compact(child))
    return module


def serving_net(module, loss):
    """A skorch net that holds the module in its serving form and nothing of its training."""
    device = next(module.parameters()).device
    return FieldNet(compact(module).to(device), loss).initialize().discard_training_state()


def sizes(module):
    """Bytes of a module by purpose: dict of "embedding", "projection", "index", "network" and
    "total".

    "embedding" are vectors of values and of numbers, "projection" what brings them to a common
    width, "index" what says where stored numbers belong, "network" everything behind the
    embeddings."""
    if isinstance(module, Members):
        each = [sizes(network) for network in module.networks]
        return {kind: sum(nbytes[kind] for nbytes in each) for kind in each[0]}
    nbytes = dict.fromkeys(("embedding", "projection", "index", "network"), 0)
    parameters = dict(module.named_parameters())
    for name, t in module.state_dict().items():
        kind = "network"
        if name.startswith("numeric."):
            kind = "embedding" if name in parameters else "network"
        elif name.startswith("embedding."):
            kind = (
                "index"
                if name not in parameters
                else "projection"
                if "projection" in name
                else "embedding"
            )
        nbytes[kind] += t.numel() * t.element_size()
    selection = getattr(module, "selection", None)
    if selection is not None:  # made from the architecture, hence in no state_dict
        nbytes["index"] += sum(b.numel() * b.element_size() for b in selection.buffers())
    return {**nbytes, "total": sum(nbytes.values())}


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
