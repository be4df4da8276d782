"""Searches that go on with a stream of chunks, their searchable modules staying in the network."""

import copy
import dataclasses
from typing import Any

import torch

from ..base import describe
from ..nn import BuildContext, check_parts
from ._batches import EncodedTensors, TrainingBatches
from ._building import build_module, build_network
from ._moving import network_state
from ._net import FieldNet
from ._net_state import _hooks, _on_cpu
from ._problem import training_net
from ._search_phase import Found
from ._slots import by_slot, entries_of, take_places
from ._training import train
from ._two_parts import two_parts

__all__ = ["LiveSearch", "begin_chunk", "begin_live", "searched_network", "train_live"]


@dataclasses.dataclass(frozen=True, eq=False)
class LiveSearch:
    """A search between two chunks: what the next one goes on with.

    Its module is never trained again; the next chunk trains a copy. The moments of the weights'
    optimisers are not in it: they stay with the net, as those of other streams do.

    Parameters
    ----------
    methods : list of SearchMethod
        As they were when the stream began.
    network : Network
    context : BuildContext
        That of the first chunk; its counts are zero.
    module : nn.Module
        The network around the searchable modules.
    parts : list of nn.Module or dict of slot to nn.Module
        What ``build`` of each method gave, within the module.
    step, n_steps : int
        Training steps so far, and those of the first chunk, by which the schedules go.
    arch_moments : list of dict
        States of the optimisers of architecture parameters, on the CPU.
    previous : EncodedTensors or None
        The last batch, if an architecture is trained on batches before; on the CPU.
    """

    methods: list
    network: Any
    context: BuildContext
    module: torch.nn.Module
    parts: list
    step: int = 0
    n_steps: int = 0
    arch_moments: list = dataclasses.field(default_factory=list)
    previous: EncodedTensors | None = None

    def copied(self, device):
        """The same with a copy of the module, on a device."""
        module, parts = copy.deepcopy((self.module, self.parts))
        return dataclasses.replace(self, module=module.to(device), parts=parts)


def begin_live(methods, network, context, device):
    """The searchable network of a stream, before its first chunk.

    Parameters
    ----------
    methods : list of SearchMethod
        Copies of their own; all of them search at once.
    network : Network
        As well.
    context : BuildContext
        Of one member, with counts of zero.
    device : torch.device

    Returns
    -------
    LiveSearch
    """
    parts = [method.build(context) for method in methods]
    placed = take_places(tuple(slot for m in methods for slot in m.slots), parts)
    module = build_module(network, context, placed).to(device)
    check_parts(network, module, placed)
    return LiveSearch(methods, network, context, module, parts)


def begin_chunk(module, data):
    """Tell the modules of a network that have the hook ``begin_chunk`` which rows come next."""
    for hook in _hooks(module.modules(), "begin_chunk"):
        hook(data)


def train_live(live, take_up_moments, loss, data, plan):
    """Train weights and architecture an epoch on a chunk.

    The schedules of modules (``set_progress``, warm-up) run once, over the first chunk; after it
    they stay as they end. Rows that are held out for the architecture are a part of each chunk; a
    chunk of one row, which has no parts, trains the weights alone.

    Parameters
    ----------
    live : LiveSearch
        Whose module is trained in place: a copy, or new.
    take_up_moments : callable (FieldNet) -> None
        Gives an initialised net the moments that the weights of ``live`` have had.
    loss : nn.Module
    data : EncodedTensors
    plan : TrainingPlan
        Of one epoch.

    Returns
    -------
    LiveSearch
    TrainingResult
        Its net holds the moments of the weights.

    Raises
    ------
    NonFiniteLossError
        If it diverges.
    """
    begin_chunk(live.module, data)
    net = training_net(live.module, loss, plan)
    if live.n_steps:
        _resume(net, live, take_up_moments)
    fractions = [
        part.arch_schedule.fraction
        for part in live.module.modules()
        if hasattr(part, "arch_schedule") and part.arch_schedule.bilevel
    ]
    turns = None
    if fractions and len(data) > 1:
        for_weights, for_arch = two_parts(data, max(fractions), plan.seed)
        data, own = data.select(for_weights), data.select(for_arch)
        net.arch_batches = TrainingBatches(own, plan.batch_size, seed=plan.seed + 1).forever()
    elif fractions:
        if not net.initialized_:
            net.n_steps = 1
            net.initialize()
        turns = net.arch_turns_
        net.arch_turns_ = [turn for turn in turns if not turn[0].bilevel]

    def summarise(epoch, record):
        for get in _hooks(net.all_modules(), "summary"):
            record.update(get())

    result = train(net, data, plan, on_epoch=summarise, goes_on=net.initialized_)
    net.arch_turns_ = net.arch_turns_ if turns is None else turns
    previous = net.previous_batch
    net.arch_batches = net.previous_batch = None  # rows of the chunk are not kept
    for p in live.module.parameters():
        p.grad = None
    return dataclasses.replace(
        live,
        step=net.step_,
        n_steps=net.n_steps,
        arch_moments=[_on_cpu(optimizer.state_dict()) for _, optimizer, _ in net.arch_turns_],
        previous=None if previous is None else _moved(previous, "cpu"),
    ), result


def _resume(net: FieldNet, live, take_up_moments):
    """Give a net the moments, the steps and the last batch of the chunks before."""
    net.n_steps = live.n_steps
    net.initialize()
    take_up_moments(net)
    for (_, optimizer, _), saved in zip(net.arch_turns_, live.arch_moments, strict=True):
        optimizer.load_state_dict(copy.deepcopy(saved))
    net.step_ = live.step
    if live.previous is not None:
        net.previous_batch = _moved(live.previous, next(live.module.parameters()).device)


def _moved(batch, device):
    """A batch with copies of its tensors on a device."""
    return EncodedTensors(
        **{
            f.name: None
            if getattr(batch, f.name) is None
            else getattr(batch, f.name).to(device, copy=True)
            for f in dataclasses.fields(batch)
        }
    )


def searched_network(live, context):
    """The network that a live search has found so far, with the weights that it has.

    It is that of ``retrain="none"``: what ``realise`` makes of the architecture, with the weights
    that ``transfer`` brings over.

    Parameters
    ----------
    live : LiveSearch
    context : BuildContext
        As in it, with a generator.

    Returns
    -------
    module : nn.Module
    architecture : dict of slot to dict

    Raises
    ------
    ValueError
        If a weight is missing.
    """
    architecture: dict = {}
    for method, parts in zip(live.methods, live.parts, strict=True):
        found = by_slot(method, method.derive(parts, context), "derive")
        known_as = describe(method, "method")
        architecture |= {slot: {**known_as, **own} for slot, own in found.items()}
    state = network_state(live.module)
    for method in live.methods:
        state = method.transfer(state, entries_of(method, architecture), context)
    served = Found(
        architecture, [("", state)], rules=dict.fromkeys(architecture, "none"), rest="none"
    )
    module = build_network(live.network, live.methods, architecture, context)
    served.hand_over(module)
    return module, architecture
