"""What a search method is given to work with."""

import dataclasses

import torch

from ._net import FieldNet
from ._training import train


class SearchProblem:
    """The training rows, the network family and the parts found so far, for one search.

    Parameters
    ----------
    network : Network
        ``build(context, parts)`` makes the module.
    context : BuildContext
    slot : str
        Where the searched module stands.
    parts : callable () -> dict of str to nn.Module
        Fresh modules of the slots that earlier searches decided.
    loss : torch.nn.Module
    data : EncodedTensors
        The rows that may be seen, nothing else.
    plan : TrainingPlan
        Of one whole search.
    device : torch.device
    on_epoch : callable or None
        See `train`.

    Attributes
    ----------
    history : list of dict
        One record an epoch, over all calls of ``train``.
    initial_state, final_state : dict of str to Tensor
        The searched network's weights before and after the last call of ``train``.
    interrupted : bool
        Whether the user stopped the search.
    """

    def __init__(self, network, context, slot, parts, loss, data, plan, device, on_epoch=None):
        self.network = network
        self.context = context
        self.slot = slot
        self.parts = parts
        self.loss = loss
        self.data = data
        self.plan = plan
        self.device = device
        self.on_epoch = on_epoch
        self.history: list[dict] = []
        self.initial_state: dict[str, torch.Tensor] = {}
        self.final_state: dict[str, torch.Tensor] = {}
        self.interrupted = False

    def train(self, searched, **changes):
        """Train the network around ``searched`` together with it; the default gradient search.

        Parameters
        ----------
        searched : nn.Module
            Stands in ``slot``.
        **changes
            Fields of the plan to change, such as ``epochs``.

        Returns
        -------
        TrainingResult
        """
        plan = dataclasses.replace(self.plan, **changes)
        module = self.network.build(self.context, {**self.parts(), self.slot: searched}).to(self.device)
        self.initial_state = {name: t.detach().clone() for name, t in module.state_dict().items()}
        net = FieldNet(module, self.loss, lr=plan.lr, embedding_l2=plan.embedding_l2, weight_decay=plan.weight_decay)

        def on_epoch(epoch, record):
            for m in module.modules():
                if hasattr(m, "summary"):
                    record.update(m.summary())
            return self.on_epoch is not None and self.on_epoch(epoch, record)

        result = train(net, self.data, plan, on_epoch=on_epoch)
        self.history.extend(result.history)
        self.final_state = {name: t.detach() for name, t in module.state_dict().items()}
        self.interrupted |= result.interrupted
        return result
