"""One-shot search: paths drawn in training, ranked by shared weights."""

import math

import numpy as np
import torch
from draws import configurations, generator
from scipy.stats import kendalltau
from torch import nn

from sklearn_autorec.engine import (
    ChoiceSpace,
    EncodedTensors,
    SearchProblem,
    TrainingPlan,
    UniformPaths,
    forward_in_chunks,
    one_shot_scores,
)
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, FieldEmbedding, batch_norm

OPERATIONS = {
    "line": lambda x: x,
    "square": lambda x: x**2 - 1,
    "sine": lambda x: 1.4 * torch.sin(3 * x),
}
PATHS = {f"part{k}": list(OPERATIONS) for k in range(3)}  # 27
TRUE = {"part0": "square", "part1": "sine", "part2": "line"}


class Supernet(nn.Module):
    """Three columns, each through an operation, then a perceptron that all paths share."""

    def __init__(self, paths, seed):
        super().__init__()
        self.paths = paths
        self.hidden, self.out = nn.Linear(3, 16), nn.Linear(16, 1)
        draws = generator(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(0, 0.4, generator=draws)

    def forward(self, x):
        mapped = [OPERATIONS[o](x[:, k]) for k, o in enumerate(self.paths.current.values())]
        return self.out(torch.relu(self.hidden(torch.stack(mapped, 1))))[:, 0]


def fit(net, x, y, n_steps, sampled):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(n_steps):
        if sampled:
            net.paths.set_progress(step / n_steps)
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()


def test_one_shot_scores_rank_paths_as_training_alone_does():
    draws = generator(1)
    x = torch.randn(900, 3, generator=draws)
    y = sum(OPERATIONS[o](x[:, k]) for k, o in enumerate(TRUE.values()))
    y = y + 0.3 * torch.randn(900, generator=draws)
    space, candidates = ChoiceSpace(PATHS), configurations(PATHS)

    def judged(net):
        with torch.no_grad():
            return -float((net(x[600:]) - y[600:]).square().mean())

    alone = []
    for candidate in candidates:
        net = Supernet(UniformPaths(space, generator()), seed=2)
        with net.paths.at(candidate):
            fit(net, x[:600], y[:600], 120, sampled=False)
            alone.append(judged(net))
    taus = {}
    for name, target in (("true", y), ("shuffled", y[torch.randperm(900, generator=draws)])):
        net = Supernet(UniformPaths(space, generator(3)), seed=3)
        fit(net, x[:600], target[:600], 800, sampled=True)
        scores = one_shot_scores(net.paths, candidates, lambda net=net: judged(net))
        taus[name] = kendalltau(scores, alone).statistic
        if name == "true":
            assert candidates[int(np.argmax(scores))] == TRUE
    assert candidates[int(np.argmax(alone))] == TRUE
    assert taus["true"] > 0.5 and taus["shuffled"] < 0.3, taus


class PrefixEmbedding(nn.Module):
    """The first columns of every field's embedding, as many as the path says; batch-normalised."""

    def __init__(self, context):
        super().__init__()
        self.table, self.norm = FieldEmbedding(context), batch_norm(context.embedding_dim)
        widths = {name: [0, 2, 4] for name in context.field_names}
        self.paths = UniformPaths(ChoiceSpace(widths), context.generator)
        self.taken = []

    def forward(self, inputs):
        widths = list(self.paths.current.values())
        if self.training:
            self.taken.append(tuple(widths))
        used = torch.arange(4) < torch.tensor(widths).unsqueeze(1)
        e = self.table(inputs) * used
        return self.norm(e.flatten(0, 1)).view_as(e)


def test_engine_draws_a_path_a_step_and_paths_are_scored_with_statistics_of_their_own():
    draws = generator(4)
    ids = torch.randint(2, 6, (1200, 2), generator=draws).int()
    same = (ids[:, 0] % 2) == (ids[:, 1] % 2)  # the fields say something together only
    y = (same == (torch.rand(1200, generator=draws) < 0.9)).float()
    data = EncodedTensors(ids, torch.zeros(1200, 0), torch.zeros(1200, 0, dtype=torch.int32), y)
    context = BuildContext(
        ("a", "b"), (6, 6), embedding_dim=4, generator=generator(), embedding_init=0.1
    )
    plan = TrainingPlan(epochs=12, batch_size=50, lr=0.02)
    train, held_out = data.select(torch.arange(900)), data.select(torch.arange(900, 1200))
    loss = BinaryLogLoss()
    problem = SearchProblem(
        FM(), context, ("embedding",), dict, loss, train, plan, torch.device("cpu")
    )
    searched = PrefixEmbedding(context)
    network = problem.train(searched).net.module_
    taken = searched.taken
    assert len(taken) == 12 * 18 and len(set(taken)) == 9
    assert all(40 <= sum(t[f] == w for t in taken) <= 110 for f in (0, 1) for w in (0, 2, 4))

    def score():
        assert not network.training
        return -float(loss(forward_in_chunks(network, held_out), held_out.y).mean())

    network.eval()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    path = dict(searched.paths.current)
    candidates = [{"a": a, "b": b} for a in (0, 2, 4) for b in (0, 2, 4)]
    mixed = one_shot_scores(searched.paths, candidates, score)
    batches = [train.select(torch.arange(k, k + 50)) for k in range(0, 900, 50)]
    own = one_shot_scores(searched.paths, candidates, score, module=network, batches=batches)
    assert searched.paths.current == path and not network.training
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert own != mixed and all(math.isfinite(s) for s in own)
    both = [c["a"] > 0 and c["b"] > 0 for c in candidates]
    best_alone = max(s for s, b in zip(own, both, strict=True) if not b)
    assert min(s for s, b in zip(own, both, strict=True) if b) > best_alone + 0.1, own
