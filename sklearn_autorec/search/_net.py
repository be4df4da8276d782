"""The skorch net that every estimator and every search trains."""

import copy
import math

import torch
from skorch import NeuralNet

from ..exceptions import NonFiniteLossError
from ._bilevel import ArchSchedule, first_order_gradient, unrolled_gradient
from ._optimizers import RowAdam, RowUndo, flush_denormals

FLUSH_EVERY = 32  # steps
ONE_LEVEL = ArchSchedule()


def _hooks(module, name):
    """The method ``name`` of every submodule that has it."""
    return [getattr(m, name) for m in module.modules() if hasattr(m, name)]


def _on_cpu(state):
    """An optimiser's state with its tensors on the CPU."""
    moments = {
        k: {name: v.cpu() if isinstance(v, torch.Tensor) else v for name, v in slots.items()}
        for k, slots in state["state"].items()
    }
    return {**state, "state": moments}


class FieldNet(NeuralNet):
    """skorch net over batches of `EncodedTensors`, with the engine's hooks and two kinds of parameters.

    Parameters
    ----------
    module : torch.nn.Module
        ids, numeric, sequences -> logits (B, C).
    criterion : torch.nn.Module
        logits, y -> loss per row (B,).
    embedding_l2 : float
        L2 decay of embedding tables (Adam's coupled form).
    weight_decay : float
        L2 decay of all other weights.
    n_steps : int
        Planned training steps, for schedules.
    cosine : bool
        Take the learning rate to zero along a half cosine over the planned steps.

    Attributes
    ----------
    arch_batches : iterator of EncodedTensors or None
        Rows for the architecture parameters of bi-level searches, without end; see `ArchSchedule`.
    """

    arch_batches = None

    def __init__(self, module, criterion, *, embedding_l2=0.0, weight_decay=0.0, n_steps=1, cosine=False, **kwargs):
        super().__init__(
            module,
            criterion,
            train_split=None,
            iterator_train=None,
            callbacks="disable",
            verbose=0,
            device=str(next(module.parameters()).device),
            **kwargs,
        )
        self.embedding_l2 = embedding_l2
        self.weight_decay = weight_decay
        self.n_steps = n_steps
        self.cosine = cosine

    def initialize_optimizer(self, triggered_directly=None):
        """Split the parameters by identity: embedding tables, other weights, architecture."""
        module = self.module_
        arch_modules = [m for m in module.modules() if hasattr(m, "arch_parameters")]
        arch = {id(p) for m in arch_modules for p in m.arch_parameters()}
        tables = [p for get in _hooks(module, "embedding_parameters") for p in get() if id(p) not in arch]
        sparse = [p for m in module.modules() if getattr(m, "sparse", False) for p in m.sparse_parameters()]
        taken = arch | {id(p) for p in tables}
        others = [p for p in module.parameters() if id(p) not in taken]
        lazy = {id(p) for p in sparse}
        dense_tables = [p for p in tables if id(p) not in lazy]
        groups = [
            {"params": dense_tables, "weight_decay": self.embedding_l2, "tables": True},
            {"params": others, "weight_decay": self.weight_decay, "tables": False},
        ]
        self.optimizer_ = torch.optim.Adam([g for g in groups if g["params"]], lr=self.lr, fused=True)
        if sparse:
            self.table_optimizer_ = RowAdam(sparse, lr=self.lr, weight_decay=self.embedding_l2)
        self.arch_turns_ = [self._arch_turn(m) for m in arch_modules]
        self.weights_ = [p for p in module.parameters() if id(p) not in arch]
        self._progress_hooks = _hooks(module, "set_progress")
        self._penalty_hooks = _hooks(module, "penalty")
        self._after_step_hooks = _hooks(module, "after_step")
        self._observe_hooks = _hooks(module, "observe")
        self.step_ = 0
        return self

    def _arch_turn(self, module):
        """(schedule, optimiser) of a searchable module."""
        schedule = getattr(module, "arch_schedule", ONE_LEVEL)
        n_steps = schedule.n_steps(self.n_steps)
        if hasattr(module, "arch_optimizer"):
            return schedule, module.arch_optimizer(n_steps)
        return schedule, torch.optim.Adam(module.arch_parameters(), lr=self.lr)

    def weight_optimizers(self):
        """The optimisers of ordinary weights, whose learning rate a schedule may change."""
        return [opt for opt in (self.optimizer_, getattr(self, "table_optimizer_", None)) if opt is not None]

    def infer(self, x, **fit_params):
        return self.module_(**x.inputs)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Mean over rows of weight * loss; weights have mean 1 over the training rows."""
        per_row = self.criterion_(y_pred, y_true)
        if training:
            for observe in self._observe_hooks:
                observe(X, per_row.detach())
        loss = (per_row if X.weight is None else per_row * X.weight).mean()
        if training:
            for penalty in self._penalty_hooks:
                loss = loss + penalty()
        return loss

    def train_step(self, batch, **fit_params):
        """One backward pass, then a step of every optimiser (skorch would run the pass once for each)."""
        progress = min(self.step_ / max(self.n_steps - 1, 1), 1.0)
        for set_progress in self._progress_hooks:
            set_progress(progress)
        if self.cosine:
            self.set_learning_rate(self.lr * 0.5 * (1 + math.cos(math.pi * progress)))
        due = [turn for turn in self.arch_turns_ if turn[0].due(self.step_, self.n_steps)]
        for optimizer in [*self.weight_optimizers(), *(opt for _, opt in self.arch_turns_)]:
            optimizer.zero_grad()
        step = self.train_step_single((batch, batch.y), **fit_params)
        for optimizer in [*self.weight_optimizers(), *(opt for schedule, opt in due if not schedule.bilevel)]:
            optimizer.step()
        for schedule, optimizer in due:
            if schedule.bilevel:
                self._arch_step(schedule, optimizer, batch)
        for after_step in self._after_step_hooks:
            after_step()
        self.step_ += 1
        if self.step_ % FLUSH_EVERY == 0:
            flush_denormals(self.optimizer_)
        return step

    def _arch_step(self, schedule, optimizer, train_batch):
        """Move the architecture parameters of one optimiser along the gradient on their own rows."""
        arch = [p for group in optimizer.param_groups for p in group["params"]]
        batch = next(self.arch_batches)
        if schedule.level == "first_order":
            gradients = first_order_gradient(self._objective, batch, arch)
        else:
            gradients = unrolled_gradient(
                self._objective, self.module_, train_batch, batch, arch, self.weights_, self.lr
            )
        for p, g in zip(arch, gradients, strict=True):
            p.grad = g
        optimizer.step()

    def _objective(self, batch):
        """The training loss of a batch, penalties included, without telling the observers."""
        per_row = self.criterion_(self.infer(batch), batch.y)
        loss = (per_row if batch.weight is None else per_row * batch.weight).mean()
        return loss + sum(penalty() for penalty in self._penalty_hooks)

    def set_learning_rate(self, lr):
        """Change the rate of the ordinary weights; architecture parameters keep theirs."""
        for optimizer in self.weight_optimizers():
            for group in optimizer.param_groups:
                group["lr"] = lr

    def retune(self, lr, embedding_l2, weight_decay):
        """Other rates for a training that goes on; the moments stay."""
        self.lr, self.embedding_l2, self.weight_decay = lr, embedding_l2, weight_decay
        for optimizer in self.weight_optimizers():
            for group in optimizer.param_groups:
                group["lr"] = lr
                group["weight_decay"] = embedding_l2 if group.get("tables", True) else weight_decay

    def training_state(self):
        """What a copy of the module needs to go on as this net would: the moments of each optimiser, on the CPU."""
        return [_on_cpu(optimizer.state_dict()) for optimizer in self.weight_optimizers()]

    def load_training_state(self, state):
        """Go on where `training_state` was taken, which stays as it is; the module must be the same."""
        for optimizer, saved in zip(self.weight_optimizers(), state, strict=True):
            optimizer.load_state_dict(copy.deepcopy(saved))

    def go_on_from(self, other):
        """Take over the moments of another net, of whose module this net has a copy.

        Moments of row-wise tables are as large as the tables. They are shared, and what changes in them is noted:
        `keep_training` or ``other.undo_training()`` ends that.
        """
        other.undo_training()  # if a rollback was interrupted
        for own, theirs in zip(self.weight_optimizers(), other.weight_optimizers(), strict=True):
            row_wise = isinstance(own, RowAdam)
            for group, their_group in zip(own.param_groups, theirs.param_groups, strict=True):
                for p, q in zip(group["params"], their_group["params"], strict=True):
                    if q in theirs.state:
                        own.state[p] = {
                            name: v.clone() if isinstance(v, torch.Tensor) and not row_wise else v
                            for name, v in theirs.state[q].items()
                        }
            if row_wise:
                own.undo = theirs.undo = RowUndo()

    def keep_training(self):
        """What was trained since `go_on_from` is to stay."""
        for optimizer in self.weight_optimizers():
            optimizer.undo = None

    def undo_training(self):
        """Bring back the moments that a net has changed which went on from this one."""
        for optimizer in self.weight_optimizers():
            if getattr(optimizer, "undo", None) is not None:
                optimizer.undo.roll_back()
                optimizer.undo = None

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """One pass over the batches; records the mean loss and stops at the first one that is not finite.

        Off the CPU the check waits for the end of the epoch: asking for each loss would stall the device.
        """
        total, rows = 0.0, 0
        for batch in iterator:
            loss = step_fn(batch, **fit_params)["loss"].detach()
            if loss.device.type == "cpu":
                loss = loss.item()
                if not math.isfinite(loss):
                    raise NonFiniteLossError(f"the training loss became {loss} at step {self.step_}")
            total = total + loss * len(batch)
            rows += len(batch)
        mean = float(total) / max(rows, 1)
        if not math.isfinite(mean):
            raise NonFiniteLossError(f"the training loss became {mean} by step {self.step_}")
        self.history.record(prefix + "_loss", mean)

    def _get_predict_nonlinearity(self):
        return lambda logits: logits

    def discard_training_state(self):
        """Drop optimisers and hooks; what is left predicts."""
        for name in ("optimizer_", "table_optimizer_"):
            if hasattr(self, name):
                setattr(self, name, None)
        self.arch_turns_, self.weights_, self.arch_batches = [], [], None
        self._progress_hooks = self._penalty_hooks = self._after_step_hooks = self._observe_hooks = ()
        # skorch would save the instance given to the constructor beside the initialised one, though they are the same.
        self.module = type(self.module_)
        self.module_.eval()
        for p in self.module_.parameters():
            p.grad = None
        return self
