"""Steps of the architecture parameters of searchable modules, as a part of the skorch net."""

from contextlib import contextmanager

import torch

from ._arch_steps import first_order_gradient, policy_gradient, unrolled_gradient
from ._schedule import ArchSchedule

__all__ = ["ONE_LEVEL", "ArchTurns"]

ONE_LEVEL = ArchSchedule()


class ArchTurns:
    """What a `FieldNet` does with the architecture parameters: which optimiser moves them when, and
    the steps in which nothing else moves.
    """

    def _arch_turn(self, module):
        """(schedule, optimiser, module) of a searchable module."""
        schedule = getattr(module, "arch_schedule", ONE_LEVEL)
        missing = [name for name in ("sample", "policy_loss") if not hasattr(module, name)]
        if schedule.gradient == "policy" and missing:
            raise TypeError(
                f"The arch_schedule of {type(module).__name__} has gradient='policy', which needs "
                f"its methods sample() and policy_loss(reward); missing: {missing}."
            )
        n_steps = schedule.n_steps(self.n_steps)
        if hasattr(module, "arch_optimizer"):
            return schedule, module.arch_optimizer(n_steps), module
        return schedule, torch.optim.Adam(module.arch_parameters(), lr=self.lr), module

    @contextmanager
    def _own_steps_apart(self):
        """Leave parameters that move in steps of their own out of a pass of the weights, whose
        gradients of them nobody would read.
        """
        apart = [
            p
            for schedule, optimizer, _ in self.arch_turns_
            if schedule.own_step and self.weights_
            for group in optimizer.param_groups
            for p in group["params"]
            if p.requires_grad
        ]
        for p in apart:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in apart:
                p.requires_grad_(True)

    def _arch_step(self, schedule, optimizer, module, train_batch):
        """Move the architecture parameters of one module, and no weight, on the rows that its
        schedule names.
        """
        arch = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        if not arch:
            return
        if schedule.rows == "held_out":
            batch = next(self.arch_batches)
        else:
            batch = self.previous_batch if schedule.rows == "previous" else train_batch
        trained = schedule.objective == "trained"
        objective = self._train_objective if trained else self._objective
        gradient = schedule.gradient
        if gradient == "unrolled" and not self.weights_:  # no weight takes a step
            gradient = "direct"
        if gradient == "direct":
            gradients = first_order_gradient(objective, batch, arch, self._over_processes)
        elif gradient == "policy":
            judge = self.criterion_ if trained else self._judge
            gradients = self._policy_gradient(module, judge, batch, arch)
        else:
            gradients = unrolled_gradient(
                objective,
                self.trained,
                train_batch,
                batch,
                arch,
                self.weights_,
                self.lr,
                self._train_objective,
                self._over_processes,
            )
        for p, g in zip(arch, gradients, strict=True):
            p.grad = g
        optimizer.step()

    def _objective(self, batch):
        """The reference loss of a batch, penalties included, without telling the observers."""
        return self._with_penalties(self._judge(self.infer(batch), batch.y), batch)

    def _train_objective(self, batch):
        """As `_objective`, by the loss that trains."""
        return self._with_penalties(self.criterion_(self.infer(batch), batch.y), batch)

    def _with_penalties(self, per_row, batch):
        loss = (per_row if batch.weight is None else per_row * batch.weight).mean()
        return loss + sum(penalty() for penalty in self._penalty_hooks)

    def _policy_gradient(self, policy, judge, batch, arch):
        """Gradient of a policy whose actions are judged on a batch, by losses (B,) of logits."""
        return policy_gradient(
            policy, self.trained, lambda rows: judge(self.infer(rows), rows.y), batch, arch
        )

    def _over_processes(self, gradients):
        """Gradients of a batch, of what this process has computed of it; here that is all."""
        return gradients
