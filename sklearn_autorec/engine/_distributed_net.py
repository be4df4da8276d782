"""The net that several processes train together, and what they do before and after."""

import math
from contextlib import contextmanager

import torch

from ..exceptions import NonFiniteLossError
from ..nn import BatchNorm, ReLUDropout
from ..nn._statistics import statistics_across
from ._net import FieldNet
from ._optimizers import RowAdam

__all__ = ["DistributedNet", "SharedBatches", "trained_together"]

# Of bits that differ between kinds of processors, such differences of weights come from; larger
# ones from something that only a part of the processes has done.
DRIFT = 1e-3
APART = 2**32  # of the random bits of dropout of two processes


class SharedBatches:
    """The batches of `TrainingBatches`, of each the share of this process.

    All processes draw the same order and forget the same ids, so that their batch is the one of a
    single process."""

    def __init__(self, batches, processes):
        self.batches, self.processes = batches, processes

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            yield self.processes.share(batch, self.batches.members)


class DistributedNet(FieldNet):
    """A `FieldNet` whose gradients are those of the batch of all processes.

    Gradients of dense parameters, and the loss, are summed over the processes in one buffer a step.
    Of row-wise tables each process gets the rows that the others have touched (`RowAdam` then moves
    the union of them); their number changes from step to step, that of the table does not matter.

    Parameters
    ----------
    module, criterion, **kwargs
        See `FieldNet`.
    processes : Processes
    """

    def __init__(self, module, criterion, *, processes, **kwargs):
        super().__init__(module, criterion, **kwargs)
        self.processes = processes

    def initialize_optimizer(self, triggered_directly=None):
        """As `FieldNet`.

        Raises
        ------
        ValueError
            If a part of the network computes something from the rows of a batch that is not a mean
            over them, or a part stands in the loss slot.
        """
        super().initialize_optimizer(triggered_directly)
        for module in self.all_modules():
            foreign = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            if (
                getattr(module, "reads_whole_batch", False)
                or hasattr(module, "observe")
                or (foreign and not isinstance(module, BatchNorm))
                or getattr(getattr(module, "arch_schedule", None), "own_step", False)
                or (self.reference is not None and module is self.criterion_)
            ):
                raise ValueError(
                    f"distributed=True: {type(module).__name__}, a part of the network, is given "
                    f"whole batches (for statistics or steps of its own), of which a process has "
                    f"a share; set distributed=False, or take another network or search."
                )
        return self

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """As `FieldNet`; in training the part that this process has in the loss of the batch."""
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss * self.processes.factor if training else loss

    def train_step_single(self, batch, **fit_params):
        """Loss and gradients of the whole batch, of which ``batch`` has the rows of this
        process.
        """
        step = super().train_step_single(batch, **fit_params)
        step["loss"] = self._sum_gradients(step["loss"].detach())
        return step

    @torch.no_grad()
    def _sum_gradients(self, loss):
        """Replace gradients by their sums over the processes; returns the sum of the losses."""
        optimizers = [*self.weight_optimizers(), *(opt for _, opt, _ in self.arch_turns_)]
        dense, row_wise = [], []
        for optimizer in optimizers:
            found = row_wise if isinstance(optimizer, RowAdam) else dense
            found += [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
        has = loss.new_tensor([float(p.grad is not None) for p in dense])
        parts = [(p if p.grad is None else p.grad).reshape(-1) for p in dense]
        parts = [
            torch.zeros_like(part) if p.grad is None else part
            for p, part in zip(dense, parts, strict=True)
        ]
        total = self.processes.total(torch.cat([loss.reshape(1), has, *parts]))
        taken = total[1 + len(dense) :].split([p.numel() for p in dense])
        # What no process has a gradient of, no optimiser may step.
        for p, n, gradient in zip(dense, total[1 : 1 + len(dense)].tolist(), taken, strict=True):
            p.grad = gradient.view_as(p) if n else None
        if row_wise:
            self._gather_rows(row_wise)
        return total[0]

    def _gather_rows(self, tables):
        """Give row-wise tables the gradients of all processes, one behind the other.

        All have them in the same order, so that all add them up to the same bits."""
        own = [None if p.grad is None else p.grad.coalesce() for p in tables]
        lengths = torch.tensor([-1 if g is None else g.indices().shape[1] for g in own])
        each = self.processes.gathered(lengths)
        for p, g, counts in zip(tables, own, each.T.tolist(), strict=True):
            if max(counts) < 0:
                continue
            rows = torch.zeros(max(counts), dtype=torch.int64, device=p.device)
            values = p.new_zeros(max(counts), *p.shape[1:])
            if g is not None:
                rows[: g.indices().shape[1]] = g.indices()[0]
                values[: len(g.values())] = g.values()
            rows, values = self.processes.gathered(rows), self.processes.gathered(values)
            kept = [max(n, 0) for n in counts]
            p.grad = torch.sparse_coo_tensor(
                torch.cat([r[:n] for r, n in zip(rows, kept, strict=True)]).unsqueeze(0),
                torch.cat([v[:n] for v, n in zip(values, kept, strict=True)]),
                p.shape,
            )

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """As `FieldNet`; losses are those of whole batches, so that all processes stop at the same
        step if one is not finite.
        """
        total, rows = 0.0, 0
        for batch in iterator:
            step = step_fn(batch, **fit_params)
            n, loss = self.processes.n_rows, step["loss"].item()
            if not math.isfinite(loss):
                raise NonFiniteLossError(f"the training loss became {loss} at step {self.step_}")
            total, rows = total + loss * n, rows + n
        members = getattr(self.module_, "members", 1)
        self.history.record(prefix + "_loss", total / max(rows, 1) / members)


def _numbers(net):
    """The parameters and float buffers of a net and its loss, by name."""
    module, loss = (
        (net.module_, net.criterion_) if net.initialized_ else (net.module, net.criterion)
    )
    state = {**module.state_dict(), **loss.state_dict(prefix="loss.")}
    return {name: t.detach() for name, t in state.items() if t.is_floating_point()}


@contextmanager
def trained_together(net, processes):
    """Begin a training with the weights of the first process in all, and see that it ends with the
    same in all.

    Within, batch norms take statistics of whole batches, and dropout draws other bits in each
    process, so that not the same units are missing of all shares.

    Raises
    ------
    RuntimeError
        If weights of the processes have gone apart.
    """
    for t in _numbers(net).values():
        processes.of_first(t)
    module = net.module_ if net.initialized_ else net.module
    dropouts = [m for m in module.modules() if isinstance(m, ReLUDropout)]
    for layer in dropouts:
        layer.restart(layer._epoch + processes.rank * APART)
    try:
        with statistics_across(processes):
            yield
    finally:
        for layer in dropouts:
            layer.restart(layer._epoch % APART)
    _end_alike(net, processes)


def _end_alike(net, processes):
    """Give all processes the weights of the first, if theirs differ by no more than rounding."""
    apart = ""
    for name, t in _numbers(net).items():
        own = t.clone()
        processes.of_first(t)
        if not torch.allclose(own, t, rtol=DRIFT, atol=DRIFT, equal_nan=True):
            apart = apart or name
    if processes.any(bool(apart)):
        what = f"; here {apart!r} is another one than in process 0" if apart else ""
        raise RuntimeError(
            f"distributed=True: the weights of the processes have gone apart in training{what}. "
            f"A part of the network, or a callback, does not do the same in each of them."
        )
