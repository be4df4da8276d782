"""The net that several processes train together, and what they do before and after."""

import math
from contextlib import contextmanager

import torch

from ..exceptions import NonFiniteLossError
from ..nn import BatchNorm
from ..nn._statistics import statistics_across
from ._arch_steps import policy_gradient
from ._net import FieldNet
from ._optimizers import RowAdam

__all__ = ["DistributedNet", "SharedBatches", "trained_together"]

# Of bits that differ between kinds of processors, such differences of weights come from; larger
# ones from something that only a part of the processes has done.
DRIFT = 1e-3


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
    Observers are given the whole batch, and the losses of all its rows.

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
                or (hasattr(module, "observe") and not getattr(module, "observes_all_rows", False))
                or (foreign and not isinstance(module, BatchNorm))
                or (self.reference is not None and module is self.criterion_)
            ):
                raise ValueError(
                    f"distributed=True: {type(module).__name__}, a part of the network, is given "
                    f"whole batches (for statistics or steps of its own), of which a process has "
                    f"a share; set distributed=False, or take another network or search."
                )
        return self

    def infer(self, x, **fit_params):
        self.processes.at = x
        return super().infer(x, **fit_params)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """As `FieldNet`; in training the part that this process has in the loss of the batch."""
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss * X.factor if training else loss

    def _tell_observers(self, batch, per_row):
        if self._observe_hooks:
            super()._tell_observers(batch.whole, self.processes.of_all_rows(per_row, batch))

    def _with_penalties(self, per_row, batch):
        return super()._with_penalties(per_row, batch) * batch.factor

    def _policy_gradient(self, policy, judge, batch, arch):
        """All processes have the rewards of all rows, and work out the same gradient."""

        def losses(whole):
            return self.processes.of_all_rows(judge(self.infer(batch), batch.y), batch)

        return policy_gradient(policy, self.trained, losses, batch.whole, arch)

    def _over_processes(self, gradients):
        return self._summed(gradients, gradients, [g.is_sparse for g in gradients])[0]

    def train_step_single(self, batch, **fit_params):
        """Loss and gradients of the whole batch, of which ``batch`` has the rows of this
        process.
        """
        step = super().train_step_single(batch, **fit_params)
        parameters, row_wise = [], []
        for optimizer in [*self.weight_optimizers(), *(opt for _, opt, _ in self.arch_turns_)]:
            own = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
            parameters += own
            sparse = isinstance(optimizer, RowAdam)
            row_wise += [sparse or (p.grad is not None and p.grad.is_sparse) for p in own]
        gradients, loss = self._summed([p.grad for p in parameters], parameters, row_wise, step)
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        step["loss"] = loss
        return step

    @torch.no_grad()
    def _summed(self, gradients, parameters, row_wise, step=None):
        """Sums of gradients (Tensor or None) over the processes, and of their parts of the loss of
        a training step, with which the first says whether time is over.
        """
        dense = [n for n, sparse in enumerate(row_wise) if not sparse]
        like = next(iter(parameters)).detach()
        numbers = like.new_zeros(2 + len(dense))
        if step is not None:
            numbers[0], numbers[1] = step["loss"].detach(), float(self.processes.ends_in_time())
        parts = [numbers]
        for k, n in enumerate(dense):
            g = gradients[n]
            numbers[2 + k] = float(g is not None)
            parts.append((torch.zeros_like(parameters[n]) if g is None else g).reshape(-1))
        total = self.processes.total(torch.cat(parts))
        sizes = [parameters[n].numel() for n in dense]
        loss, over, *has = total[: len(numbers)].unbind()
        if step is not None:
            self.processes.time_is_over = bool(over)
        sums = list(gradients)
        for n, known, own in zip(dense, has, total[len(numbers) :].split(sizes), strict=True):
            # What no process has a gradient of, no optimiser may step.
            sums[n] = own.view_as(parameters[n]) if known else None
        tables = [n for n, sparse in enumerate(row_wise) if sparse]
        if tables:
            of_tables = self._gathered([(gradients[n], parameters[n]) for n in tables])
            for n, rows in zip(tables, of_tables, strict=True):
                sums[n] = rows
        return sums, loss

    def _gathered(self, tables):
        """Row-wise gradients of tables, of all processes one behind the other, added up.

        All have them in the same order, so that all add them up to the same bits."""
        own = [None if g is None else g.coalesce() for g, _ in tables]
        lengths = torch.tensor([-1 if g is None else g.indices().shape[1] for g in own])
        each, found = self.processes.gathered(lengths), []
        for g, (_, p), counts in zip(own, tables, each.T.tolist(), strict=True):
            if max(counts) < 0:
                found.append(None)
                continue
            rows = torch.zeros(max(counts), dtype=torch.int64, device=p.device)
            values = torch.zeros(max(counts), *p.shape[1:], device=p.device, dtype=p.dtype)
            if g is not None:
                rows[: g.indices().shape[1]] = g.indices()[0]
                values[: len(g.values())] = g.values()
            rows, values = self.processes.gathered(rows), self.processes.gathered(values)
            kept = [max(n, 0) for n in counts]
            together = torch.sparse_coo_tensor(
                torch.cat([r[:n] for r, n in zip(rows, kept, strict=True)]).unsqueeze(0),
                torch.cat([v[:n] for v, n in zip(values, kept, strict=True)]),
                p.shape,
                check_invariants=False,  # torch warns unless told; rows are those of gradients
            )
            found.append(together.coalesce())
        return found

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """As `FieldNet`; losses are those of whole batches, so that all processes stop at the same
        step if one is not finite.
        """
        total, rows = 0.0, 0
        for batch in iterator:
            step = step_fn(batch, **fit_params)
            n, loss = batch.n_rows, step["loss"].item()
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

    Within, batch norms take statistics of whole batches, and what is drawn by row is drawn for all
    of them.

    Raises
    ------
    RuntimeError
        If weights of the processes have gone apart.
    """
    for t in _numbers(net).values():
        processes.of_first(t)
    with statistics_across(processes):
        yield
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
