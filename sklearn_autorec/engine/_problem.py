"""What a search method is given to work with."""

import dataclasses

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from ..nn import check_parts
from ._batches import TrainingBatches
from ._net import ONE_LEVEL, FieldNet
from ._training import train


def check_loss(loss):
    """Refuse a searched loss that its own architecture steps could not move.

    Raises
    ------
    ValueError
        If the reference loss judges it with the weights taken as they are: that does not depend on
        it.
    """
    schedule = getattr(loss, "arch_schedule", ONE_LEVEL)
    if hasattr(loss, "arch_parameters") and (schedule.level, schedule.objective) == (
        "first_order",
        "reference",
    ):
        raise ValueError(
            f"The arch_schedule of {type(loss).__name__} in the loss slot has level='first_order' "
            f"and objective='reference': the "
            "reference loss depends on it through a step of the weights alone; choose "
            "level='unrolled', or objective='trained'."
        )


class SearchProblem:
    """The training rows, the network family and the parts found so far, for one search.

    Parameters
    ----------
    network : Network
        ``build(context, parts)`` makes the module.
    context : BuildContext
        Of the fields that the searched part has.
    slots : tuple of str
        Where the searched modules stand.
    parts : callable () -> dict of str to nn.Module
        Fresh modules of the slots that earlier searches decided.
    loss : torch.nn.Module
        The reference loss; it trains as well unless a part stands in the loss slot.
    data : EncodedTensors
        The rows that may be seen, nothing else.
    plan : TrainingPlan
        Of one whole search.
    device : torch.device
    on_epoch : callable or None
        See `train`.
    network_context : BuildContext or None, default=None
        Of the whole network, where the searched part has a smaller one.

    Attributes
    ----------
    history : list of dict
        One record an epoch, over all calls of ``train``.
    initial_state, final_state : dict of str to Tensor
        The searched network's weights before and after the last call of ``train``, and under
        "loss." those of a part in the loss slot.
    interrupted : bool
        Whether the user stopped the search.
    """

    def __init__(
        self,
        network,
        context,
        slots,
        parts,
        loss,
        data,
        plan,
        device,
        on_epoch=None,
        network_context=None,
    ):
        self.network_context = context if network_context is None else network_context
        self.network = network
        self.context = context
        self.slots = slots
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

    def split(self, fraction):
        """Positions of the rows for weights and of those for the architecture, disjoint; stratified
        by class.

        Parameters
        ----------
        fraction : float in (0, 1)
            Share of rows for the architecture.

        Returns
        -------
        weight_rows, arch_rows : int64 Tensors

        Raises
        ------
        ValueError
            If one part would be empty.
        """
        try:
            return _parts(self.data, fraction, self.plan.seed)
        except ValueError as error:
            raise ValueError(
                f"search_fraction={fraction} leaves no rows for the weights or for the "
                f"architecture "
                f"({len(self.data)} training rows): {error}"
            ) from error

    def train(self, *searched, **changes):
        """Train the network around searchable modules together with them; the default gradient
        search.

        Modules whose ``arch_schedule`` is bi-level get rows of their own (see `split`), which the
        weights do not see. Those with ``judge`` see, after the training, a share of the rows that
        nothing was trained on.

        Parameters
        ----------
        *searched : nn.Module
            Stand in ``slots``, in that order.
        **changes
            Fields of the plan to change, such as ``epochs``.

        Returns
        -------
        TrainingResult

        Raises
        ------
        TypeError, ValueError
            If the network leaves out a searched module, or a module of the loss slot could not
            learn.
        """
        plan = dataclasses.replace(self.plan, **changes)
        parts = {**self.parts(), **dict(zip(self.slots, searched, strict=True))}
        loss = parts.pop("loss", None)  # judges what the network gives and is no part of it
        check_loss(loss)
        module = self.network.build(self.network_context, parts).to(self.device)
        check_parts(self.network, module, parts)
        net = training_net(module, self.loss, plan, None if loss is None else loss.to(self.device))
        self.initial_state = {name: t.clone() for name, t in _state(module, loss).items()}
        data, schedules = self.data, [getattr(m, "arch_schedule", ONE_LEVEL) for m in searched]
        fractions = [schedule.fraction for schedule in schedules if schedule.bilevel]
        if fractions:
            for_weights, for_arch = self.split(max(fractions))
            data, own = self.data.select(for_weights), self.data.select(for_arch)
            net.arch_batches = TrainingBatches(own, plan.batch_size, seed=plan.seed + 1).forever()
        judges = [m for m in searched if getattr(m, "judged_share", 0)]
        unseen = None
        if judges:
            try:
                rest, kept_back = _parts(data, max(m.judged_share for m in judges), plan.seed + 2)
                data, unseen = data.select(rest), data.select(kept_back)
            except ValueError:  # a table of a row or two: nothing can be judged
                unseen = None

        def on_epoch(epoch, record):
            for m in net.all_modules():
                if hasattr(m, "summary"):
                    record.update(m.summary())
            return self.on_epoch is not None and self.on_epoch(epoch, record)

        result = train(net, data, plan, on_epoch=on_epoch)
        if unseen is not None:
            for m in judges:
                m.judge(module, self.loss, unseen)
        self.history.extend({"slot": "+".join(self.slots), **record} for record in result.history)
        self.final_state = _state(module, loss)
        self.interrupted |= result.interrupted
        return result


def training_net(module, loss, plan, part=None):
    """A net that trains a module with the rates of a plan: by its loss, or by a part in the loss
    slot, which ``loss`` then judges.
    """
    return FieldNet(
        module,
        loss if part is None else part,
        reference=None if part is None else loss,
        lr=plan.lr,
        embedding_l2=plan.embedding_l2,
        weight_decay=plan.weight_decay,
    )


def _state(module, loss):
    """All tensors of a network, and of a part in the loss slot, by name."""
    of_loss = {} if loss is None else loss.state_dict(prefix="loss.")
    return {name: t.detach() for name, t in {**module.state_dict(), **of_loss}.items()}


def _parts(data, share, seed):
    """Positions of two disjoint parts of the rows, the second of so large a share; stratified by
    class where that can be.

    Raises
    ------
    ValueError
        If one part would be empty.
    """
    y = data.y.cpu().numpy()
    classes = y if len(np.unique(y)) == 2 or np.issubdtype(y.dtype, np.integer) else None
    options = {"test_size": share, "random_state": seed % 2**32}
    try:
        rows = train_test_split(np.arange(len(y)), stratify=classes, **options)
    except ValueError:  # a class with a single row, or fewer rows than classes
        rows = train_test_split(np.arange(len(y)), **options)
    return tuple(torch.from_numpy(part).to(data.ids.device) for part in rows)
