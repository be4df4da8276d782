"""Weights of a module beside those that are trained: of the best epoch, and their average."""

import torch

__all__ = ["Snapshot", "WeightAverage"]


class Snapshot:
    """A copy of a module's state in memory, refreshed in place."""

    def __init__(self):
        self.state = None

    def take(self, module):
        state = module.state_dict()
        if self.state is None:
            self.state = {name: t.detach().clone() for name, t in state.items()}
        else:
            for name, t in state.items():
                self.state[name].copy_(t)

    def restore(self, module):
        module.load_state_dict(self.state)


class WeightAverage:
    """Exponential moving average of weights and batch statistics, swapped in for validation and at
    the end.
    """

    def __init__(self, module, decay):
        self.tensors = [t.detach() for t in module.state_dict().values() if t.is_floating_point()]
        self.average = [t.clone() for t in self.tensors]
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self):
        self.steps += 1
        # Early steps average over what there is, else the initial weights would linger.
        torch._foreach_lerp_(
            self.average, self.tensors, 1 - min(self.decay, self.steps / (self.steps + 10))
        )

    @torch.no_grad()
    def swap(self):
        for current, average in zip(self.tensors, self.average, strict=True):
            kept = current.clone()
            current.copy_(average)
            average.copy_(kept)
