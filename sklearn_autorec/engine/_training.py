"""Epochs: training, validation, early stopping in memory, interruption, non-finite losses."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..exceptions import ConvergenceWarning, NonFiniteLossError
from ._batches import EncodedTensors, batches_of
from ._kept_weights import Snapshot, WeightAverage
from ._net import FieldNet
from ._time_limit import BatchesInTime
from ._training_state import EpochFile

PREDICT_ROWS = 16_384  # rows of one forward pass without gradients
CPU_ROWS = 4096  # of one on a processor, whose caches hold the tensors of no more
# Matrix products treat the last rows of a block otherwise than the rest. In whole blocks of sixteen
# (eight are too few on some processors) a row has the same bits whatever it is predicted with.
ROW_BLOCK = 16


@dataclass
class TrainingPlan:
    """Everything about a training run that is not data or module.

    Parameters
    ----------
    epochs : int
        Epochs at most.
    batch_size : int
        Rows of a step.
    lr, embedding_l2, weight_decay : float
        Adam's learning rate; L2 decay of embedding tables and of other weights.
    lr_schedule : {"constant", "plateau", "cosine"}
        "plateau" divides the rate by 10 after an epoch without improvement (needs validation rows);
        "cosine" takes it to zero over the planned epochs.
    id_dropout : float
        See `TrainingBatches`.
    patience : int
        Epochs without improvement after which training stops (with validation rows only).
    seed : int
        Of order and replaced ids.
    monitor : callable (y ndarray, logits ndarray, weight ndarray or None) -> float, or None
        Higher is better; None monitors the validation loss.
    averaging : float in [0, 1)
        Decay per step of the running average of the weights that is validated and kept; 0 keeps the
        last.
    processes : Processes or None
        Which train together, each on its share of every batch; None is this one alone.
    deadline : float or None
        Reading of ``now`` (``_time_limit.py``) after which no batch begins but the first. Of
        several processes that of the first one, which tells the others. Not with a checkpoint.
    """

    epochs: int
    batch_size: int
    lr: float = 1e-3
    embedding_l2: float = 0.0
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    id_dropout: float = 0.0
    patience: int = 2
    seed: int = 0
    monitor: Callable | None = None
    averaging: float = 0.0
    processes: Any = None
    deadline: float | None = None


@dataclass
class TrainingResult:
    """What a training run leaves: the net with its best weights in place, and its history.

    ``best_epoch`` is 0 if no epoch was finished before it was interrupted (or none had a score).
    ``diverged`` says that an epoch after the best one was not finite, so that the moments of the
    optimisers are not either. ``out_of_time`` says that the deadline has ended it; the epoch that
    it cut short counts as one."""

    net: FieldNet
    history: list
    best_epoch: int
    interrupted: bool = False
    diverged: bool = False
    out_of_time: bool = False


def forward_in_chunks(module, data, rows=None, forward=None):
    """Logits (N, C) of all rows, in eval mode and without gradients; the mode is left as it was
    found.

    If a device runs out of memory, its cache is released and the chunks are halved, down to one
    block of rows. With ``forward``, a method of the module, what that gives, (..., N, C)."""
    members = getattr(module, "members", 1)
    if rows is None:
        rows = CPU_ROWS if data.ids.device.type == "cpu" else PREDICT_ROWS
    rows = max(rows // members // ROW_BLOCK * ROW_BLOCK, ROW_BLOCK) if members > 1 else rows
    forward = module if forward is None else forward
    training = module.training
    if training:
        module.eval()
    try:
        while True:
            try:
                batches = [data] if len(data) <= rows else batches_of(data, rows)
                with torch.inference_mode():
                    chunks = [
                        forward(**_in_blocks(batch).inputs)[..., : len(batch), :]
                        for batch in batches
                    ]
                break
            except torch.OutOfMemoryError:
                rows = min(rows, len(data)) // 2
                if rows < ROW_BLOCK:
                    raise
            # Outside of the handler, which holds on to the tensors of the failed pass.
            release_memory()
    finally:
        if training:
            module.train()
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks, -2)


def release_memory():
    """Give cached blocks back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def memory_explained(batch_size):
    """If a device runs out of memory beside the steps of `train`, say what may be lowered, as that
    does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if isinstance(error.__cause__, torch.OutOfMemoryError):  # that of `train`, with an estimate
            raise
        raise _with_advice(
            error, batch_size, "Rows and weights are too many for this device"
        ) from error


def _with_advice(error, batch_size, reason):
    return torch.OutOfMemoryError(
        f"{error} {reason}: lower batch_size (now {batch_size}) or embedding_dim, or cap "
        f"vocabularies with "
        "encoder=FieldEncoder(max_categories=...)."
    )


def _in_blocks(batch):
    """The batch with rows of zeros up to a multiple of `ROW_BLOCK`."""
    missing = -len(batch) % ROW_BLOCK
    if not missing:
        return batch
    return EncodedTensors(
        *(_lengthened(t, len(batch) + missing) for t in (batch.ids, batch.numeric, batch.sequences))
    )


def _lengthened(rows, n):
    """The rows, and rows of zeros up to ``n``; ``pad`` takes several times as long for a few."""
    longer = rows.new_zeros(n, rows.shape[1])
    if rows.shape[1]:
        longer[: len(rows)] = rows
    return longer


def train(net, data, plan, valid=None, on_epoch=None, goes_on=False, checkpoint=None):
    """Train a net in place and leave it with the weights of its best epoch.

    Without validation rows the best epoch is the last finished one.

    Parameters
    ----------
    net : FieldNet, initialised or not
    data : EncodedTensors or RowStream
    valid : EncodedTensors or None
    plan : TrainingPlan
    on_epoch : callable (epoch, record dict) -> bool or None
        Called after each epoch; True stops.
    goes_on : bool, default=False
        Count the steps of an initialised net on, by the plan that it has, instead of beginning
        with the first step of a new plan: its schedules then do not begin again.
    checkpoint : (TrainingCheckpoint, str) or None
        Where, and under which name, to keep what is needed to go on behind each epoch. If something
        is there, the training goes on from it; ``on_epoch`` is not called for what is over.

    Returns
    -------
    TrainingResult

    Raises
    ------
    torch.OutOfMemoryError
        If the device's memory is too small, with an estimate of what is needed.
    NonFiniteLossError
        If the loss or a weight is not finite before a single epoch is finished. Later on, the best
        epoch is restored and a `ConvergenceWarning` tells so.
    """
    if plan.processes is None:
        return _train(net, data, plan, valid, on_epoch, goes_on, checkpoint)
    with plan.processes.together(net):
        return _train(net, data, plan, valid, on_epoch, goes_on, checkpoint)


def _train(net, data, plan, valid, on_epoch, goes_on, checkpoint):
    """As `train`, in one process or with what several do before and after around it."""
    members = getattr(net.module_ if net.initialized_ else net.module, "members", 1)
    batches = data.batches(
        plan.batch_size, id_dropout=plan.id_dropout, seed=plan.seed, members=members
    )
    processes = plan.processes
    if processes is None:
        timed = BatchesInTime(batches, plan.deadline)
    else:
        timed = processes.batches(batches, plan.deadline)
    net.cosine = plan.lr_schedule == "cosine"
    if not goes_on:
        net.n_steps = len(batches) * plan.epochs
    if not net.initialized_:
        net.initialize()
    if not goes_on:
        net.step_ = 0  # schedules are those of this run, also of a net with moments
    passed = batches if processes is None and plan.deadline is None else timed
    trained, best, history = net.trained, Snapshot(), []
    average = WeightAverage(trained, plan.averaging) if plan.averaging else None
    step = net.train_step
    if average is not None:

        def step(batch):
            result = net.train_step(batch)
            average.update()
            return result

    best_score, best_epoch, bad_epochs, rate = -np.inf, 0, 0, plan.lr
    interrupted = diverged = in_place = out_of_time = False
    first, kept = 0, None
    if checkpoint is not None:
        kept = EpochFile(*checkpoint, net, batches, best, average)
        if (numbers := kept.load()) is not None:
            first, history = numbers["next"], numbers["history"]
            best_score, best_epoch, bad_epochs, rate = numbers["score"]
            in_place = numbers["in_place"]
            if plan.lr_schedule == "plateau":
                net.set_learning_rate(rate)
    try:
        for epoch in range(first, plan.epochs):
            net.history.new_epoch()
            in_place = False
            if kept is not None:
                kept.begin(epoch)
            net.run_single_epoch(passed, training=True, prefix="train", step_fn=step)
            _check_finite(trained, net, epoch == first)
            losses = {
                name: net.history[-1][name]
                for name in ("train_loss", "slot_loss")
                if name in net.history[-1]
            }
            record = {"epoch": epoch + 1, **losses, "lr": rate}
            if average is not None:
                average.swap()
            score = _validate(net, valid, plan, record) if valid is not None else float(epoch)
            history.append(record)
            if score > best_score:
                best_score, best_epoch, bad_epochs = score, epoch + 1, 0
                # No step follows, there is nothing to lose.
                in_place = (epoch + 1 == plan.epochs or timed.is_over) and average is None
                if not in_place:
                    best.take(trained)
            else:
                bad_epochs += 1
                if plan.lr_schedule == "plateau":
                    rate *= 0.1
                    net.set_learning_rate(rate)
            stop = on_epoch is not None and on_epoch(epoch, record)
            if average is not None:
                average.swap()
            if processes is not None:
                stop = processes.any(stop)
            done = stop or bad_epochs >= plan.patience or epoch + 1 == plan.epochs
            if kept is not None:
                kept.save(
                    {
                        "next": plan.epochs if done else epoch + 1,
                        "history": history,
                        "score": (best_score, best_epoch, bad_epochs, rate),
                        "in_place": in_place,
                    }
                )
            out_of_time = timed.is_over and (timed.cut or not done)
            if done or out_of_time:
                break
    except KeyboardInterrupt:
        if processes is not None:  # the others are at another step, and cannot be waited for
            raise
        interrupted = True
    except torch.OutOfMemoryError as error:
        needed = sum(t.numel() * t.element_size() for t in trained.parameters())
        raise _with_advice(
            error,
            plan.batch_size,
            f"Weights, gradients and moments need about {4 * needed / 2**30:.2f} GiB, the rest is "
            f"that of a batch",
        ) from error
    except NonFiniteLossError as error:
        hint = (
            f"{error} of epoch {len(history) + 1}; a smaller lr (now {plan.lr}) or smaller numeric "
            "values may help"
        )
        diverged = True
        if best.state is None:
            raise NonFiniteLossError(hint + ".") from None
        warnings.warn(
            f"Training stopped: {hint}. The weights of epoch {best_epoch} are kept.",
            ConvergenceWarning,
            stacklevel=3,
        )
    finally:
        batches.close()
    if kept is not None:
        kept.end()
    if best.state is not None and not in_place:
        best.restore(trained)
    return TrainingResult(net, history, best_epoch, interrupted, diverged, out_of_time)


def _check_finite(module, net, whole):
    """Refuse weights that steps have made infinite and that no loss has seen since.

    Of tables with row-wise gradients these are among the rows that were moved; all are looked at
    only if the ``whole`` is asked for.
    """
    optimizer = getattr(net, "table_optimizer_", None)
    extremes = [] if optimizer is None else optimizer.extremes()
    noted = set()
    if optimizer is not None and not whole:
        noted = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for t in module.state_dict(keep_vars=True).values():
        if t.is_floating_point() and t.numel() and id(t) not in noted:
            extremes += torch.aminmax(t.detach())
    if extremes and not bool(torch.stack([x.isfinite() for x in extremes]).all()):
        raise NonFiniteLossError(f"the weights became infinite by step {net.step_}")


def scores_of(net, data, plan, name, loss=None):
    """The reference loss of rows, and what the plan monitors beside it.

    Parameters
    ----------
    net : FieldNet
    data : EncodedTensors
    plan : TrainingPlan
    name : str
        Of the rows.
    loss : nn.Module or None
        Instead of the net's.

    Returns
    -------
    dict
        "NAME_loss" and, if something else than the loss is monitored, "NAME_score", higher being
        better.
    """
    together = plan.processes
    forward = forward_in_chunks if together is None else together.forward
    logits = forward(net.module_, data)
    with torch.inference_mode():
        if loss is None:
            mean = net.get_loss(logits, data.y, X=data)
        else:
            per_row = loss(logits, data.y)
            mean = (per_row if data.weight is None else per_row * data.weight).mean()
        scores = {f"{name}_loss": float(mean)}
    if plan.monitor is not None:
        weight = None if data.weight is None else data.weight.cpu().numpy()
        monitored = plan.monitor(data.y.cpu().numpy(), logits.cpu().numpy(), weight)
        scores[f"{name}_score"] = float(monitored)
    return scores if together is None else together.value_of_first(lambda: scores)


def _validate(net, valid, plan, record):
    """Score the validation rows (higher is better) and write the figures into the epoch's
    record.
    """
    scores = scores_of(net, valid, plan, "valid")
    record.update(scores)
    score = scores.get("valid_score", -scores["valid_loss"])
    return score if np.isfinite(score) else -np.inf
