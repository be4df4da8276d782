"""What the tests of schedules share."""

import torch
from torch import nn

from sklearn_autorec.engine import EncodedTensors, FieldNet
from sklearn_autorec.nn import BinaryLogLoss, ReLUDropout

LR, ARCH_LR, N_FIELDS = 0.1, 2.0, 3


class Gate(nn.Module):
    """A factor per field, soft or drawn; the odds of each are its architecture."""

    def __init__(self, schedule, seed=0):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.4, -0.3, 0.1]))
        self.arch_schedule = schedule
        self.generator = torch.Generator().manual_seed(seed)
        self.action, self.rewards, self.n_draws = None, [], 0

    def arch_parameters(self):
        return [self.logits]

    def arch_optimizer(self, n_steps):
        return torch.optim.SGD([self.logits], lr=ARCH_LR)

    def sample(self):
        p = torch.sigmoid(self.logits.detach())
        self.action = (torch.rand(p.shape, generator=self.generator) < p).float()
        self.n_draws += 1

    def log_probability(self):
        log_p = nn.functional.logsigmoid
        return (self.action * log_p(self.logits) + (1 - self.action) * log_p(-self.logits)).sum()

    def policy_loss(self, reward):
        self.rewards.append(reward)
        return -reward.mean() * self.log_probability()

    def factors(self):
        return torch.sigmoid(self.logits) if self.action is None else self.action


class Tiny(nn.Module):
    """Two layers with batch norm and dropout around a gate: one-hot ids -> logits (B, 1)."""

    def __init__(self, schedule, dropout=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.gate = Gate(schedule)
        self.table = nn.Parameter(torch.empty(3 * N_FIELDS))
        self.norm = nn.BatchNorm1d(N_FIELDS)
        self.drop = ReLUDropout(dropout, torch.Generator().manual_seed(2))
        self.out = nn.Parameter(torch.empty(N_FIELDS, 1))
        for p in (self.table, self.out):
            nn.init.normal_(p, generator=generator)

    def forward(self, ids, numeric, sequences):
        offsets = torch.arange(N_FIELDS) * 3
        e = self.norm(self.table[ids.long() + offsets]) * self.gate.factors()
        return self.drop(e) @ self.out

    def weights(self):
        return [p for p in self.parameters() if p is not self.gate.logits]


def batches(n, seed, rows=16, weighted=False):
    generator = torch.Generator().manual_seed(seed)

    def batch():
        ids = torch.randint(0, 3, (rows, N_FIELDS), generator=generator).int()
        y = (torch.rand(rows, generator=generator) < 0.4).float()
        weight = torch.rand(rows, generator=generator) * 2 if weighted else None
        empty = torch.zeros(rows, 0)
        return EncodedTensors(ids, empty, empty.int(), y, weight)

    return [batch() for _ in range(n)]


def net_of(module, n_steps, optimizer=torch.optim.SGD):
    net = FieldNet(module, BinaryLogLoss(), lr=LR, n_steps=n_steps).initialize()
    net.optimizer_ = optimizer(module.weights(), lr=LR)
    return net
