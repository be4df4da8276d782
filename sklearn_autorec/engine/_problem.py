"""What a search method is given to work with."""

import dataclasses

import torch

from ..nn import check_parts
from ._arch_turns import ONE_LEVEL
from ._batches import TrainingBatches
from ._building import build_module
from ._distributed_net import DistributedNet
from ._evaluation import evaluate
from ._moving import begin_with, check_distinct, held_still, network_state, positions_of, state_of
from ._net import FieldNet
from ._slots import take_places
from ._streams import RowsBeside, RowStream
from ._training import forward_in_chunks, train
from ._two_parts import two_parts
from ._unseen import UnseenLoss


def check_loss(loss):
    """Refuse a searched loss that its own architecture steps could not move.

    Raises
    ------
    ValueError
        If the reference loss judges it with the weights taken as they are: that does not depend on
        it.
    """
    schedule = getattr(loss, "arch_schedule", ONE_LEVEL)
    blind = schedule.own_step and schedule.gradient != "unrolled"
    if hasattr(loss, "arch_parameters") and blind and schedule.objective == "reference":
        told = f"level={schedule.level!r}" if schedule.level else f"gradient={schedule.gradient!r}"
        raise ValueError(
            f"The arch_schedule of {type(loss).__name__} in the loss slot has {told} and "
            "objective='reference': the reference loss depends on it through a step of the "
            "weights alone; choose level='unrolled', or objective='trained'."
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
    resting : tuple of str
        Slots whose parts are not trained any more, see ``retrain`` of `SearchMethod`.
    network_context : BuildContext or None, default=None
        Of the whole network, where the searched part has a smaller one.
    encoder : FieldEncoder, FrozenEstimator of one, or None
        Fitted: which values the ids of the whole table stand for.
    stream : RowStream or None, default=None
        Where rows come in blocks, all of them, on which ``train`` trains unless it is told which
        ``rows``; ``data`` is then a sample of them.

    Attributes
    ----------
    history : list of dict
        One record an epoch, over all calls of ``train``, and one a candidate of ``evaluate``.
    initial_state, final_state : dict of str to Tensor
        The searched network's weights before and after the last call of ``train``, and under
        "loss." those of a part in the loss slot. A call with a ``start`` goes on with a training:
        the initial weights are then those of the first. After ``evaluate`` those of the best
        candidate.
    interrupted : bool
        Whether the user, or the time of the fit, stopped the search.
    out_of_time : bool
        Whether it was the time.
    kept : object or None
        What the method leaves here stays with the fitted estimator; see ``specialize`` of
        `SearchMethod`.
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
        resting=(),
        network_context=None,
        encoder=None,
        stream=None,
    ):
        self.stream = stream
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
        self.resting = tuple(f"{slot}." for slot in resting)
        self.encoder = encoder
        self.history: list[dict] = []
        self.initial_state: dict[str, torch.Tensor] = {}
        self.final_state: dict[str, torch.Tensor] = {}
        self.interrupted = self.out_of_time = False
        self.kept: object = None

    @property
    def groups(self):
        """Codes of the groups of the training rows, int64 Tensor (N,) aligned with ``data``, whose
        rows have theirs as well (``data.select(rows).groups``); None if ``fit`` was given none.
        """
        return self.data.groups

    def split(self, fraction, rows=None):
        """Positions of the rows for weights and of those for the architecture, disjoint; stratified
        by class. Of ``groups``, if there are several, each is on one side. With
        ``validation="time"`` the rows for the architecture are the newest.

        Parameters
        ----------
        fraction : float in (0, 1)
            Share of rows for the architecture.
        rows : int64 positions or None
            Which are split, without repetitions; None is all.

        Returns
        -------
        weight_rows, arch_rows : int64 Tensors

        Raises
        ------
        ValueError
            If one part would be empty, or a row comes twice.
        """
        if rows is not None:
            rows = positions_of(rows, len(self.data), self.data.ids.device)
            check_distinct(rows, "a part of them is held out")
        data = self._select(rows)
        try:
            parts = two_parts(data, fraction, self.plan.seed)
        except ValueError as error:
            raise ValueError(
                f"search_fraction={fraction} leaves no rows for the weights or for the "
                f"architecture "
                f"({len(data)} training rows): {error}"
            ) from error
        return parts if rows is None else tuple(rows[part] for part in parts)

    def _select(self, rows):
        """Training rows by position; None is all."""
        if rows is None:
            return self.data
        return self.data.select(positions_of(rows, len(self.data), self.data.ids.device))

    def train(self, *searched, start=None, rows=None, only=None, **changes):
        """Train the network around searchable modules together with them; the default gradient
        search.

        Modules whose ``arch_schedule`` is bi-level get rows of their own (see `split`), which the
        weights do not see. Those with ``judge`` see, after the training, a share of the rows that
        nothing was trained on. Where all of them end early, the weights are those of the epoch in
        which the loss of these rows was least.

        Parameters
        ----------
        *searched : nn.Module or dict of slot to nn.Module
            Stand in ``slots``: those of dicts where these say, the others in the order of the slots
            that are left. A module may be trained again; it is the same object in all results then,
            and goes on changing.
        start : TrainingResult, dict of str to Tensor, or None
            Weights with which the network begins, by name: those of an earlier call, for instance.
            Names of only one side are left alone. The searched modules begin with them as well. The
            moments of the optimisers start anew. None: the network begins with new weights, the
            searched modules with those that they have.
        rows : int64 positions or None
            Training rows that are used (rows of their own for bi-level schedules and for ``judge``
            are taken from these); None is all (of ``stream``, if there is one).
            Rows that repeat count as often as they come.
        only : callable (str, Parameter) -> bool, or None
            Which parameters may move, by their names in the network (``"embedding.weight"``; those
            of a part in the loss slot begin with "loss."), architecture parameters included. None
            is all. Batch statistics follow the batches in any case.
        **changes
            Fields of the plan to change, such as ``epochs``.

        Returns
        -------
        TrainingResult

        Raises
        ------
        TypeError, ValueError
            If the network leaves out a searched module, or a module of the loss slot could not
            learn; if ``start`` is of another network, ``rows`` are no positions, or ``only`` lets
            nothing move.
        """
        data, start = self._select(rows), None if start is None else state_of(start)
        if rows is None and self.stream is not None:
            data = self.stream
        plan = dataclasses.replace(self.plan, **changes)
        placed = take_places(self.slots, searched)
        parts = {**self.parts(), **placed}
        loss = parts.pop("loss", None)  # judges what the network gives and is no part of it
        check_loss(loss)
        module = build_module(self.network, self.network_context, parts).to(self.device)
        check_parts(self.network, module, parts)
        net = training_net(module, self.loss, plan, None if loss is None else loss.to(self.device))
        if start is not None:
            begin_with(start, module, loss)
        if start is None or not self.initial_state:
            state = network_state(module, loss)
            self.initial_state = {name: t.clone() for name, t in state.items()}
        schedules = [getattr(m, "arch_schedule", ONE_LEVEL) for m in placed.values()]
        fractions = [schedule.fraction for schedule in schedules if schedule.bilevel]
        if fractions:
            data, net.arch_batches = self._arch_rows(data, max(fractions), rows, plan)
            if plan.processes is not None:
                net.arch_batches = map(plan.processes.share, net.arch_batches)
        judges = [m for m in placed.values() if getattr(m, "judged_share", 0)]
        unseen = watch = None
        if judges:
            if rows is not None:
                check_distinct(positions_of(rows, len(self.data), "cpu"), "some of them judge")
            data, unseen = self._judging(data, max(m.judged_share for m in judges), plan.seed + 2)
        if unseen is not None:
            watch = UnseenLoss(net, unseen, plan, self.loss, [*placed.values()])

        def on_epoch(epoch, record):
            for m in net.all_modules():
                if hasattr(m, "summary"):
                    record.update(m.summary())
            enough = watch is not None and watch.look(record)
            return bool(self.on_epoch is not None and self.on_epoch(epoch, record)) or enough

        with held_still(net, only, self._rests):
            result = train(net, data, plan, on_epoch=on_epoch)
        if isinstance(unseen, RowsBeside):
            unseen = unseen.data
        if unseen is not None:
            watch.restore()
            for m in judges:
                if hasattr(m, "judge"):
                    m.judge(module, self.loss, unseen)
            watch.warn(self.slots)
        self.history.extend({"slot": "+".join(self.slots), **record} for record in result.history)
        self.final_state = network_state(module, loss)
        self.stop(result.interrupted, result.out_of_time)
        return result

    def stop(self, by_user, out_of_time):
        """Note that the user or the time has stopped the search; the user has the last word."""
        self.interrupted |= by_user or out_of_time
        self.out_of_time = (self.out_of_time or out_of_time) and not by_user

    def _arch_rows(self, data, fraction, rows, plan):
        """The rows for the weights, and batches without end of those for the architecture."""
        seed = plan.seed + 1
        if data is not self.stream:
            for_weights, for_arch = self.split(fraction, rows)
            own = TrainingBatches(self.data.select(for_arch), plan.batch_size, seed=seed)
            return self.data.select(for_weights), own.forever()
        try:
            data, own = data.without(fraction, plan.seed, pooled=True)
        except ValueError as error:
            raise ValueError(
                f"search_fraction={fraction} leaves no rows for the weights or for the "
                f"architecture: {error}"
            ) from error
        return data, own.forever(plan.batch_size, seed)

    def _judging(self, data, share, seed):
        """The rows that train, and some that judge afterwards; None where there are too few."""
        try:
            if isinstance(data, RowStream):  # no more than a sample is held in memory
                return data.without(min(share, len(self.data) / len(data)), seed, pooled=False)
            rest, kept_back = two_parts(data, share, seed)
            return data.select(rest), data.select(kept_back)
        except ValueError:  # a table of a row or two: nothing can be judged
            return data, None

    def _rests(self, name):
        return name.startswith(self.resting)

    def score(self, result, rows=None):
        """Mean reference loss of rows, in eval mode; lower is better.

        Parameters
        ----------
        result : TrainingResult or nn.Module
            What ``train`` returned, or a network: ids, numeric, sequences -> logits (B, C).
        rows : int64 positions or None
            Training rows to judge by; None is all. They should not have been trained on.

        Returns
        -------
        float
            Where rows have weights, their weighted mean.
        """
        module = result if isinstance(result, torch.nn.Module) else result.net.module_
        data, processes = self._select(rows), self.plan.processes
        forward = forward_in_chunks if processes is None else processes.forward
        logits = forward(module, data)
        with torch.inference_mode():
            losses = self.loss(logits, data.y).double()
            weight = torch.ones_like(losses) if data.weight is None else data.weight.double()
            score = float((losses * weight).sum() / weight.sum())
        return score if processes is None else processes.value_of_first(lambda: score)

    def evaluate(self, policy, *, score, n_jobs=None, max_time=None, max_evaluations=None):
        """Score the candidates of a generator, each once, and tell it the scores.

        Parameters
        ----------
        policy : generator
            Yields lists of candidates, which are dicts of what JSON knows, and is sent the list
            of their scores, in that order. It depends on these and on its random numbers alone
            (``context.generator``). A candidate that it asks for again has its old score and is
            not evaluated again.
        score : callable (problem, architecture) -> float
            Higher is better; `HeldOutScore` trains and judges. It gets a copy of this problem,
            whose generator starts alike for all candidates and whose books are its own. Of
            workers it must be picklable.
        n_jobs : int or None, default=None
            Candidates at a time, in processes, each with one thread. None means one, in this
            process, with the threads that torch has, unless joblib's ``parallel_config`` says
            otherwise. The result does not depend on the number.
        max_time : float or None, default=None
            Seconds after which no candidate begins, but for the first.
        max_evaluations : int or None, default=None
            Candidates at most.

        Returns
        -------
        Evaluations
            If the user stops it, with what has finished; ``interrupted`` says so.

        Warns
        -----
        FitFailedWarning
            If ``score`` raises an error or is not finite: the candidate's score is NaN.

        Raises
        ------
        TypeError
            If a candidate is not a dict of what JSON knows.
        ValueError
            If all candidates failed, or there was none.
        RuntimeError
            If the policy asks for nothing new any more and does not end.
        KeyboardInterrupt
            If the user stops it before there is a score.
        """
        return evaluate(self, policy, score, n_jobs, max_time, max_evaluations)


def training_net(module, loss, plan, part=None):
    """A net that trains a module with the rates of a plan: by its loss, or by a part in the loss
    slot, which ``loss`` then judges.
    """
    options = {} if plan.processes is None else {"processes": plan.processes}
    return (DistributedNet if options else FieldNet)(
        module,
        loss if part is None else part,
        reference=None if part is None else loss,
        lr=plan.lr,
        embedding_l2=plan.embedding_l2,
        weight_decay=plan.weight_decay,
        **options,
    )
