"""What each hook of a searchable module costs in a training step.

    python examples/benchmarks/bench_hooks.py [--threads 1] [--rounds 7] [--steps 40]

A small DeepFM (10 fields of 1,000 values, embeddings of 8, hidden 64-32, batch 1,024) with a factor
for each field in its gate slot. Every line adds to the gate what it names. Processor time of this
process, so that other processes count little; all lines take turns, round by round, and the ratio
is that to the first line in the same round."""

import argparse
import itertools
import time
from functools import partial

import numpy as np
import torch
from _common import print_machine, ratio_of, rounds_of
from torch import nn

from sklearn_autorec.engine import (
    ArchSchedule,
    CategoricalController,
    EncodedTensors,
    FieldNet,
)
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, annealed, hard_concrete

N_FIELDS, N_IDS, BATCH = 10, 1000, 1024


class Plain(nn.Module):
    """A factor of each field, trained as any other weight."""

    def __init__(self, context):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(context.n_fields))

    def forward(self, e, inputs):
        return self.factor.unsqueeze(0)


class Searched(Plain):
    """With its own optimiser (Adam), by the same backward pass."""

    def arch_parameters(self):
        return [self.factor]


class WithProgress(Plain):
    def set_progress(self, t):
        self.temperature = annealed(1.0, 0.1, t)


class WithPenalty(Plain):
    def penalty(self):
        return 0.01 * self.factor.abs().sum()


class WithObserve(Plain):
    total = 0.0

    def observe(self, batch, per_row_loss):
        self.total = self.total + per_row_loss.mean()


class WithAfterStep(Plain):
    @torch.no_grad()
    def after_step(self):
        self.factor.copy_(nn.functional.softshrink(self.factor, 1e-4))


class Scheduled(Searched):
    """An architecture step of its own."""

    def __init__(self, context, **schedule):
        super().__init__(context)
        self.arch_schedule = ArchSchedule(**schedule)


class Drawn(Scheduled):
    """A Bernoulli variable for each field, whose log odds learn by rewards."""

    def __init__(self, context, **schedule):
        super().__init__(context, gradient="policy", **schedule)
        self.generator = torch.Generator().manual_seed(0)
        self.sample()

    def sample(self):
        odds = torch.sigmoid(self.factor.detach())
        self.action = torch.bernoulli(odds, generator=self.generator)

    def policy_loss(self, reward):
        return -reward.mean() * (self.action * nn.functional.logsigmoid(self.factor)).sum()

    def forward(self, e, inputs):
        return self.action.unsqueeze(0)


class Concrete(Searched):
    """Hard concrete gates, drawn once a step in ``set_progress``."""

    def __init__(self, context):
        super().__init__(context)
        self.generator = torch.Generator().manual_seed(0)

    def set_progress(self, t):
        uniform = torch.rand(N_FIELDS, generator=self.generator).clamp(1e-6, 1 - 1e-6)
        self.noise = torch.logit(uniform)

    def forward(self, e, inputs):
        return hard_concrete(self.factor, self.noise).unsqueeze(0)


LINES = {
    "no part in the slot": None,
    "a factor per field, no hooks": Plain,
    "arch_parameters, one level": Searched,
    "set_progress (annealed)": WithProgress,
    "penalty (L1 of F numbers)": WithPenalty,
    "observe (mean of the losses)": WithObserve,
    "after_step (soft threshold)": WithAfterStep,
    "hard concrete gates": Concrete,
    "rows='same', direct": lambda c: Scheduled(c, rows="same"),
    "rows='held_out', direct": lambda c: Scheduled(c, rows="held_out"),
    "rows='held_out', direct, every=4": lambda c: Scheduled(c, rows="held_out", every=4),
    "rows='previous', direct": lambda c: Scheduled(c, rows="previous"),
    "rows='held_out', unrolled": lambda c: Scheduled(c, gradient="unrolled"),
    "rows='held_out', policy": lambda c: Drawn(c, rows="held_out"),
}


def batches(n, seed):
    """Batches of random rows."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        yield EncodedTensors(
            torch.randint(0, N_IDS, (BATCH, N_FIELDS), dtype=torch.int32, generator=generator),
            torch.zeros(BATCH, 0),
            torch.zeros(BATCH, 0, dtype=torch.int32),
            torch.randint(0, 2, (BATCH,), generator=generator).float(),
        )


def net_of(make, n_steps):
    """A net around a DeepFM with the part that ``make`` gives in its gate slot."""
    names = tuple(f"f{k}" for k in range(N_FIELDS))
    generator = torch.Generator().manual_seed(0)
    context = BuildContext(
        names, (N_IDS,) * N_FIELDS, embedding_dim=8, output_bias=(0.0,), generator=generator
    )
    parts = {} if make is None else {"gate": make(context)}
    module = DeepFM(hidden_units=(64, 32)).build(context, parts)
    net = FieldNet(module, BinaryLogLoss(), lr=0.001, n_steps=n_steps).initialize()
    net.arch_batches = itertools.cycle(list(batches(4, 1)))
    return net


def seconds_of(net, rows):
    """Processor time of a step over each of the batches."""
    start = time.process_time()
    for batch in rows:
        net.train_step(batch)
    return (time.process_time() - start) / len(rows)


def controller_seconds(n_steps):
    """Processor time of ``ask`` and ``tell`` of eight configurations of ten choices."""
    choices = {f"f{k}": [0, 1, 2, 3] for k in range(N_FIELDS)}
    controller = CategoricalController(choices, torch.Generator().manual_seed(0), n_steps=n_steps)
    start = time.process_time()
    while candidates := controller.ask():
        controller.tell([0.0] * len(candidates))
    return (time.process_time() - start) / n_steps


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--steps", type=int, default=40)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    rows = list(batches(args.steps, 0))
    nets = {name: net_of(make, (args.rounds + 1) * args.steps) for name, make in LINES.items()}
    lines = {name: partial(seconds_of, net, rows) for name, net in nets.items()}
    times = rounds_of(lines, args.rounds)
    base = next(iter(times.values()))
    print(f"{'':36s} microseconds a step   ratio, median [min, max]")
    for name, own in times.items():
        print(f"{name:36s} {1e6 * np.median(own):8,.0f}              {ratio_of(own, base)}")
    print(f"\nCategoricalController, ask and tell: {1e6 * controller_seconds(100):,.0f}")


if __name__ == "__main__":
    main()
