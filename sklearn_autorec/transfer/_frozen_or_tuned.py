"""Modules whose weights are, group by group, those of another model or a trained copy of them."""

import numpy as np
import torch
from torch import nn

from ..engine import ArchSchedule
from ..nn import GumbelSoftmax

TUNED, FROZEN, GROUP = "tuned.", "frozen:", "group:"


class NoTable(nn.Module):
    """Stands in the embedding slot of a network that is given its embeddings."""


class NetworkBody(nn.Module):
    """A network without its tables of embeddings; (B, F, d), inputs -> logits (B, C).

    Parameters
    ----------
    network : Network
    context : BuildContext
    """

    def __init__(self, network, context):
        super().__init__()
        self.network = network.build(context, {"embedding": NoTable()})

    def forward(self, e, inputs):
        return self.network.logits(e, inputs)


class SampledPolicy(nn.Module):
    """One gate a group, 1 for tuned and 0 for frozen: drawn once a step in training, else the more
    probable; () -> (G,).
    """

    def __init__(self, n_groups, generator, temperatures, warmup):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_groups))
        self.relaxation = GumbelSoftmax(
            (n_groups, 2), generator, temperatures, warmup=warmup, hard=True
        )

    def forward(self):
        frozen = torch.zeros_like(self.logits)
        return self.relaxation(torch.stack([frozen, self.logits], 1))[:, 1]

    def probabilities(self):
        """Of being tuned, (G,)."""
        return torch.sigmoid(self.logits.detach())


class FixedPolicy(nn.Module):
    """Gates that are known; () -> (G,)."""

    def __init__(self, gates):
        super().__init__()
        self.register_buffer("gates", gates)

    def forward(self):
        return self.gates


class FrozenOrTuned(nn.Module):
    """A module whose weights are z times tuned ones plus 1 - z times frozen ones, with the gate z
    of their group.

    Parameters
    ----------
    module : nn.Module
        With the weights of the source; they are tuned.
    groups : dict of str to int64 Tensor
        By name of a parameter the group of its elements, which broadcasts to them. Group G, one
        behind those of the policy, is always tuned.
    policy : SampledPolicy or FixedPolicy
        Gates (G,).
    """

    def __init__(self, module, groups, policy):
        super().__init__()
        self.tuned, self.policy = module, policy
        self.names = list(groups)
        parameters = dict(module.named_parameters())
        for name, group in groups.items():
            self.register_buffer(buffer_name(FROZEN, name), parameters[name].detach().clone())
            self.register_buffer(buffer_name(GROUP, name), group)

    def forward(self, *inputs):
        gates = with_always_tuned(self.policy())
        parameters = dict(self.tuned.named_parameters())
        mixed = {}
        for name in self.names:
            z = gates[getattr(self, buffer_name(GROUP, name))]
            frozen = getattr(self, buffer_name(FROZEN, name))
            mixed[name] = z * parameters[name] + (1 - z) * frozen
        return torch.func.functional_call(self.tuned, mixed, inputs)


class SearchedBody(FrozenOrTuned):
    """The body while the policy is searched."""

    def __init__(self, module, groups, policy, arch_lr, search_fraction, warmup):
        super().__init__(module, groups, policy)
        self.arch_lr = arch_lr
        self.arch_schedule = ArchSchedule("first_order", fraction=search_fraction, warmup=warmup)

    def arch_parameters(self):
        return [self.policy.logits]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam(self.arch_parameters(), lr=self.arch_lr, betas=(0.5, 0.999))

    def summary(self):
        return {"tuned_share": float(self.policy.probabilities().mean())}


def buffer_name(kind, name):
    """Of a parameter's frozen values or groups; dots are not allowed there."""
    return kind + name.replace(".", "/")


def with_always_tuned(gates):
    """Gates (G,) and the one of what is always tuned, (G + 1,)."""
    return torch.cat([gates, gates.new_ones(1)])


def chosen_weights(state, prefix, gates):
    """The tensors of a `FrozenOrTuned` as those of the module itself.

    Parameters
    ----------
    state : dict of str to Tensor
        Of a network that holds it; other names are left out.
    prefix : str
        Of its names there, such as "body.".
    gates : float Tensor (G,)
        Zeros and ones.

    Returns
    -------
    dict of str to Tensor
        With the same prefix.
    """
    chosen = {}
    for full_name, tuned in state.items():
        if not full_name.startswith(prefix + TUNED):
            continue
        name = full_name.removeprefix(prefix + TUNED)
        frozen = state.get(prefix + buffer_name(FROZEN, name))
        if frozen is not None:
            group = state[prefix + buffer_name(GROUP, name)]
            z = with_always_tuned(gates.to(tuned.device))[group]
            tuned = torch.where(z > 0, tuned, frozen)
        chosen[prefix + name] = tuned
    return chosen


def groups_of(module, context):
    """The fields and layers of a network, which the policy decides about.

    What belongs to the values of a field, or to a number, is of the group of that field, in the
    embeddings and in a first-order term alike. All else is of a layer: one begins with every matrix
    (or other weight of several axes, or of pairs of fields); vectors behind it, such as a bias and
    the scale of a batch norm, belong to it. Vectors before the first one are of no group.

    Parameters
    ----------
    module : nn.Module
        The whole network.
    context : BuildContext
        Of one member.

    Returns
    -------
    layers : list of str
        Names of the modules, those of one module told apart by their parameters.
    groups : dict of str to int64 Tensor
        By name of a parameter; fields first, then layers, then what is in no group.
    """
    layers, groups, nowhere = [], {}, -1
    layer = nowhere
    for name, p in module.named_parameters():
        owner, _, own_name = name.rpartition(".")
        axes = getattr(module.get_submodule(owner), "field_axes", {}).get(own_name, {})
        by_field = [(dim, _fields_along(axis, context)) for dim, axis in axes.items()]
        by_field = [(dim, fields) for dim, fields in by_field if fields is not None]
        if by_field:
            dim, fields = by_field[0]
            shape = [1] * p.ndim
            shape[dim] = -1
            groups[name] = torch.from_numpy(fields).view(shape)
            continue
        if p.ndim > 1 or axes:
            layer = context.n_fields + len(layers)
            taken = owner in layers or not owner
            layers.append(name if taken else owner)
        groups[name] = torch.full((1,) * p.ndim, layer)
    last = context.n_fields + len(layers)
    return layers, {name: torch.where(g < 0, last, g) for name, g in groups.items()}


def _fields_along(axis, context):
    """The field of every element of an axis of values or numbers, int64; None of another axis."""
    if len(axis.runs) != 1 or [f for f in axis.runs[0] if isinstance(f, str)] not in (["V"], ["N"]):
        return None
    fields = np.zeros(1, np.int64)
    for factor in axis.runs[0]:
        if factor == "V":
            own = np.repeat(context.table_fields, context.table_sizes)
        elif factor == "N":
            own = context.n_categorical + np.arange(context.n_numeric)
        else:
            own = np.zeros(factor, np.int64)
        fields = (fields[:, None] + own).ravel()
    return fields.astype(np.int64)
