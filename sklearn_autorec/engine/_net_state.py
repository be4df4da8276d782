"""What a net collects from its modules, and what it hands on."""

import torch


def _hooks(modules, name):
    """The method ``name`` of every module that has it."""
    return [getattr(m, name) for m in modules if hasattr(m, name)]


def _on_cpu(state):
    """An optimiser's state with its tensors on the CPU."""
    moments = {
        k: {name: v.cpu() if isinstance(v, torch.Tensor) else v for name, v in slots.items()}
        for k, slots in state["state"].items()
    }
    return {**state, "state": moments}


def _tables(modules):
    """The parameters that modules call embedding tables; those in a storage of fewer bytes are not
    trained.
    """
    found = [p for get in _hooks(modules, "embedding_parameters") for p in get()]
    return [p for p in found if isinstance(p, torch.nn.Parameter)]
