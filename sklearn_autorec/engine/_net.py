"""The skorch net that every estimator and every search trains."""

import copy
import math
from collections.abc import Sequence

import torch
from skorch import NeuralNet

from ..exceptions import NonFiniteLossError
from ._arch_turns import ArchTurns
from ._net_state import _hooks, _on_cpu, _tables
from ._optimizers import LeanAdam, RowAdam, RowUndo, flush_denormals

FLUSH_EVERY = 32  # steps


class FieldNet(ArchTurns, NeuralNet):
    """skorch net over batches of `EncodedTensors`, with the engine's hooks and two kinds of
    parameters.

    Parameters
    ----------
    module : torch.nn.Module
        ids, numeric, sequences -> logits (B, C).
    criterion : torch.nn.Module
        logits, y -> loss per row (B,); trains the weights, its own among them. It may have the
        engine's hooks.
    reference : torch.nn.Module or None
        The loss that judges, where another one trains: validation rows, the architecture steps of
        bi-level searches, and the training loss of the history. None is the criterion.
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
    previous_batch : EncodedTensors or None
        The batch of the step before, if an architecture is trained on such.
    resting : sequence of Module
        Modules that stay in eval mode while the others train; see ``held_still``.
    """

    arch_batches = previous_batch = None
    resting: Sequence[torch.nn.Module] = ()

    def __init__(
        self,
        module,
        criterion,
        *,
        reference=None,
        embedding_l2=0.0,
        weight_decay=0.0,
        n_steps=1,
        cosine=False,
        **kwargs,
    ):
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
        # skorch would take a module itself for one of those that are trained.
        self._references = (reference,)
        self.embedding_l2 = embedding_l2
        self.weight_decay = weight_decay
        self.n_steps = n_steps
        self.cosine = cosine

    @property
    def reference(self):
        return self._references[0]

    def initialize_optimizer(self, triggered_directly=None):
        """Split the parameters by identity: embedding tables, other weights, those of the loss,
        architecture.
        """
        module, modules = self.module_, self.all_modules()
        arch_modules = [m for m in modules if hasattr(m, "arch_parameters")]
        arch = {id(p) for m in arch_modules for p in m.arch_parameters()}
        tables = [p for p in _tables(modules) if id(p) not in arch]
        sparse = [
            p
            for m in module.modules()
            if getattr(m, "sparse", False)
            for p in m.sparse_parameters()
            if isinstance(p, torch.nn.Parameter)
        ]
        taken = arch | {id(p) for p in tables}
        others = [p for p in module.parameters() if id(p) not in taken and p.is_floating_point()]
        lazy = {id(p) for p in sparse}
        dense_tables = [p for p in tables if id(p) not in lazy]
        groups = [
            {"params": dense_tables, "weight_decay": self.embedding_l2, "tables": True},
            {"params": others, "weight_decay": self.weight_decay, "tables": False},
        ]
        # A method over several slots may share weights between the network and the loss.
        taken |= {id(p) for p in others}
        of_loss = [p for p in self.criterion_.parameters() if id(p) not in taken]
        if of_loss:
            groups.append(
                {"params": of_loss, "weight_decay": 0.0, "tables": False, "of_loss": True}
            )
        self.optimizer_ = LeanAdam([g for g in groups if g["params"]], lr=self.lr)
        if sparse:
            self.table_optimizer_ = RowAdam(sparse, lr=self.lr, weight_decay=self.embedding_l2)
        self.arch_turns_ = [self._arch_turn(m) for m in arch_modules]
        of_all = {id(p): p for p in (*module.parameters(), *self.criterion_.parameters())}
        self.weights_ = [
            p for number, p in of_all.items() if number not in arch and p.requires_grad
        ]
        self._progress_hooks = _hooks(modules, "set_progress")
        self._penalty_hooks = _hooks(modules, "penalty")
        self._after_step_hooks = _hooks(modules, "after_step")
        self._observe_hooks = _hooks(modules, "observe")
        self.step_, self.previous_batch = 0, None
        return self

    def all_modules(self):
        """Every module that may have hooks: those of the network, then those of the loss."""
        return [*self.module_.modules(), *self.criterion_.modules()]

    @property
    def trained(self):
        """What training changes, as one module: the network, with the loss beside it if that has a
        state.
        """
        return (
            torch.nn.ModuleList([self.module_, self.criterion_])
            if self.criterion_.state_dict()
            else self.module_
        )

    def weight_optimizers(self):
        """The optimisers of ordinary weights, whose learning rate a schedule may change."""
        return [
            opt
            for opt in (self.optimizer_, getattr(self, "table_optimizer_", None))
            if opt is not None
        ]

    def _set_training(self, training=True):
        """The mode of the network and its loss; skorch would set that of every part each step."""
        for module in (self.module_, self.criterion_):
            if module.training != training:
                module.train(training)
        for module in self.resting:
            module.training = False

    def infer(self, x, **fit_params):
        return self.module_(**x.inputs)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Mean over rows of weight * loss; weights have mean 1 over the training rows.

        In training several members have rows of their own: the sum of their means, so that each
        learns as it would alone. Otherwise it is the reference loss."""
        per_row = self._judge(y_pred, y_true) if not training else self.criterion_(y_pred, y_true)
        if training:
            self._tell_observers(X, per_row)
        loss = (per_row if X.weight is None else per_row * X.weight).mean()
        members = getattr(self.module_, "members", 1)
        if training and members > 1:
            loss = loss * members
        if training:
            for penalty in self._penalty_hooks:
                loss = loss + penalty()
        return loss

    def _tell_observers(self, batch, per_row):
        """Give those who observe a training its losses (B,) of a batch."""
        for observe in self._observe_hooks:
            observe(batch, per_row.detach())

    def _judge(self, logits, y):
        """The reference loss per row."""
        return (self.criterion_ if self.reference is None else self.reference)(logits, y)

    def train_step(self, batch, **fit_params):
        """One backward pass, then a step of every optimiser (skorch would run the pass once for
        each).
        """
        progress = min(self.step_ / max(self.n_steps - 1, 1), 1.0)
        for set_progress in self._progress_hooks:
            set_progress(progress)
        if self.cosine:
            self.set_learning_rate(self.lr * 0.5 * (1 + math.cos(math.pi * progress)))
        due = [turn for turn in self.arch_turns_ if turn[0].due(self.step_, self.n_steps)]
        for turn in due:
            if turn[0].before_weights:
                self._arch_step(*turn, batch)
        for optimizer in [*self.weight_optimizers(), *(opt for _, opt, _ in self.arch_turns_)]:
            optimizer.zero_grad()
        with self._own_steps_apart():
            step = self.train_step_single((batch, batch.y), **fit_params)
        if self.reference is not None:
            with torch.no_grad():
                judged = self.get_loss(step["y_pred"].detach(), batch.y, X=batch)
            step["reference_loss"] = judged * getattr(self.module_, "members", 1)
        for optimizer in [
            *self.weight_optimizers(),
            *(opt for schedule, opt, _ in due if not schedule.own_step),
        ]:
            optimizer.step()
        for turn in due:
            if turn[0].own_step and not turn[0].before_weights:
                self._arch_step(*turn, batch)
        for after_step in self._after_step_hooks:
            after_step()
        if any(schedule.rows == "previous" for schedule, _, _ in self.arch_turns_):
            self.previous_batch = batch
        self.step_ += 1
        if self.step_ % FLUSH_EVERY == 0:
            flush_denormals(self.optimizer_)
        return step

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
                decay = embedding_l2 if group.get("tables", True) else weight_decay
                group["weight_decay"] = 0.0 if group.get("of_loss") else decay

    def training_state(self):
        """What a copy of the module needs to go on as this net would: the moments of each
        optimiser, on the CPU.
        """
        return [_on_cpu(optimizer.state_dict()) for optimizer in self.weight_optimizers()]

    def load_training_state(self, state):
        """Go on where `training_state` was taken, which stays as it is; the module must be the
        same.
        """
        for optimizer, saved in zip(self.weight_optimizers(), state, strict=True):
            optimizer.load_state_dict(copy.deepcopy(saved))

    def go_on_from(self, other):
        """Take over the moments of another net, of whose module this net has a copy.

        Moments of row-wise tables are as large as the tables. They are shared, and what changes in
        them is noted: `keep_training` or ``other.undo_training()`` ends that."""
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
        """One pass over the batches; records the mean loss (of a row and a member) and stops at the
        first one that is not finite.

        Where another loss trains than the one that judges, the latter is the loss of the record,
        the former its "slot_loss". Off the CPU the check waits for the end of the epoch: asking for
        each loss would stall the device."""
        total, judged, rows = 0.0, 0.0, 0
        for batch in iterator:
            step = step_fn(batch, **fit_params)
            loss = step["loss"].detach()
            judged = judged + step.get("reference_loss", 0.0) * len(batch)
            if loss.device.type == "cpu":
                loss = loss.item()
                if not math.isfinite(loss):
                    raise NonFiniteLossError(
                        f"the training loss became {loss} at step {self.step_}"
                    )
            total = total + loss * len(batch)
            rows += len(batch)
        members = getattr(self.module_, "members", 1)
        mean = float(total) / max(rows, 1) / members
        if not math.isfinite(mean):
            raise NonFiniteLossError(f"the training loss became {mean} by step {self.step_}")
        if self.reference is not None:
            self.history.record("slot_loss", mean)
            mean = float(judged) / max(rows, 1) / members
        self.history.record(prefix + "_loss", mean)

    def _get_predict_nonlinearity(self):
        return lambda logits: logits

    def discard_training_state(self):
        """Drop optimisers and hooks; what is left predicts."""
        for name in ("optimizer_", "table_optimizer_"):
            if hasattr(self, name):
                setattr(self, name, None)
        self.arch_turns_, self.weights_ = [], []
        self.arch_batches = self.previous_batch = None
        self.resting = ()
        self._progress_hooks = self._penalty_hooks = self._after_step_hooks = (
            self._observe_hooks
        ) = ()
        # skorch would save the instance given to the constructor beside the initialised one, though
        # they are the same.
        self.module = type(self.module_)
        self.module_.eval()
        for p in self.module_.parameters():
            p.grad = None
        return self
