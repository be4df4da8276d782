"""Three search methods of one's own, each on a table whose right answer is known.

    python examples/three_methods.py [--rows 2000] [--seeds 1]

`FieldGates` searches by gradients, `DrawnPair` by rewards, `GreedyPairs` by whole candidates. The
author's guide explains them line by line."""

import argparse
import time
from numbers import Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import ArchSchedule, HeldOutScore
from sklearn_autorec.nn import InputSelection, PairDots, annealed, pair_index

OPTIONS = {
    "network": "fm",
    "embedding_dim": 4,
    "lr": 0.02,
    "max_epochs": 8,
    "batch_size": 50,
    "early_stopping": False,
    "wide": None,
    "target_statistics": False,
    "random_state": 0,
}


# Gradients ---------------------------------------------------------------------------------------


class Gates(nn.Module):
    """A factor in (0, 1) for every field, which sharpens as the search goes on; -> (1, F)."""

    def __init__(self, context, price):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(context.n_fields))
        self.field_axes = {"logit": {0: context.axis("F")}}
        self.price, self.temperature = price, 1.0

    def arch_parameters(self):
        return [self.logit]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam([self.logit], lr=5 / n_steps)  # the way is as long in any search

    def set_progress(self, t):
        self.temperature = annealed(1.0, 0.1, t)

    def gates(self):
        return torch.sigmoid(self.logit / self.temperature)

    def penalty(self):
        return self.price * self.gates().sum()

    def forward(self, e, inputs):
        return self.gates().unsqueeze(0)

    def summary(self):
        return {"open_gates": int((self.logit > 0).sum())}


class FieldGates(SearchMethod):
    """Drop the fields whose gate does not earn its price."""

    slot = "gate"
    narrows = True
    _parameter_constraints = {"price": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, price=0.003):
        self.price = price

    def build(self, context):
        return Gates(context, self.price)

    def derive(self, module, context):
        logit = module.logit.detach().cpu()
        kept = (logit > 0).nonzero()[:, 0].tolist() or [int(logit.argmax())]
        return {"fields": kept, "scores": logit.tolist()}

    def check(self, architecture, context):
        fields, n = architecture.get("fields"), context.n_fields
        ints = isinstance(fields, list) and fields and all(type(f) is int for f in fields)
        if not ints or not 0 <= min(fields) <= max(fields) < n or fields != sorted({*fields}):
            raise ValueError(f"fields must be rising ints below {n}, got {fields!r:.200}.")

    def selection(self, architecture, context):
        return InputSelection(context, architecture["fields"])

    def field_scores(self, architecture, context):
        return architecture["scores"]

    def realise(self, architecture, context):
        return None  # nothing stands in the slot when the search is over


# Rewards -----------------------------------------------------------------------------------------


class SomePairs(nn.Module):
    """Dot products of pairs of fields, -> (B, K): the concrete part of two methods."""

    def __init__(self, pairs, context):
        super().__init__()
        index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
        self.dots, self.out_dim = PairDots(index, context.n_fields), len(pairs)
        self.pairs = [tuple(pair) for pair in pairs]

    def interactions(self):
        return [(pair, None) for pair in self.pairs]  # without weights

    def forward(self, e, inputs):
        return self.dots(e)


class PairsMethod(SearchMethod):
    """What both methods that choose pairs of fields know of an architecture."""

    slot = "interaction"

    def check(self, architecture, context):
        pairs, n = architecture.get("interactions"), context.n_fields
        if not isinstance(pairs, list):
            raise ValueError(f"interactions must be a list of pairs, got {pairs!r:.200}.")
        for pair in pairs:
            ints = isinstance(pair, list) and len(pair) == 2 and all(type(f) is int for f in pair)
            if not ints or not 0 <= pair[0] < pair[1] < n:
                raise ValueError(f"a pair must be two rising ints below {n}, got {pair!r}.")

    def realise(self, architecture, context):
        return SomePairs(architecture["interactions"], context)

    def interaction_scores(self, architecture, context):
        pairs = map(tuple, architecture["candidates"])
        return dict(zip(pairs, architecture["scores"], strict=True))


class PairPolicy(nn.Module):
    """All pairs of fields, of which one, drawn by learned odds, counts in a step; -> (B, P)."""

    def __init__(self, context, arch_lr):
        super().__init__()
        self.pairs = pair_index(context.n_fields).T.tolist()
        self.products, self.out_dim = SomePairs(self.pairs, context), context.axis("P")
        self.logits = nn.Parameter(torch.zeros(len(self.pairs)))
        self.field_axes = {"logits": {0: context.axis("P")}}
        self.arch_schedule = ArchSchedule(rows="held_out", gradient="policy", warmup=0.2)
        self.arch_lr, self.usual_reward = arch_lr, None
        seed = int(torch.randint(2**62, (), generator=context.generator))
        self.generator = torch.Generator().manual_seed(seed)  # of its own: it goes on drawing
        self.sample()

    def arch_parameters(self):
        return [self.logits]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam([self.logits], lr=self.arch_lr)

    def set_progress(self, t):
        self.sample()  # the weights train on drawn pairs as well

    def sample(self):
        odds = torch.softmax(self.logits.detach().cpu(), 0)
        self.action = int(torch.multinomial(odds, 1, generator=self.generator))

    def policy_loss(self, reward):
        reward = float(reward.mean())
        usual = reward if self.usual_reward is None else self.usual_reward
        self.usual_reward = 0.9 * usual + 0.1 * reward
        return -(reward - usual) * torch.log_softmax(self.logits, 0)[self.action]

    def forward(self, e, inputs):
        chosen = torch.zeros(len(self.pairs), device=e.device)
        chosen[self.action] = 1
        return self.products(e, inputs) * chosen


class DrawnPair(PairsMethod):
    """The pair of fields that earns most, by REINFORCE: no gradient runs through the network."""

    _parameter_constraints = {"arch_lr": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, arch_lr=0.1):
        self.arch_lr = arch_lr

    def build(self, context):
        return PairPolicy(context, self.arch_lr)

    def derive(self, module, context):
        odds = torch.softmax(module.logits.detach().cpu(), 0)
        return {
            "interactions": [module.pairs[int(odds.argmax())]],
            "candidates": module.pairs,
            "scores": odds.tolist(),
        }


# Candidates --------------------------------------------------------------------------------------


class GreedyPairs(PairsMethod):
    """Add the pair that helps most, as long as one helps by more than ``least_gain``."""

    _parameter_constraints = {"least_gain": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, least_gain=0.01):
        self.least_gain = least_gain

    def policy(self, problem):
        pairs = pair_index(problem.context.n_fields).T.tolist()
        kept, (score,) = [], (yield [{"interactions": []}])
        while len(kept) < len(pairs):
            candidates = [sorted([*kept, pair]) for pair in pairs if pair not in kept]
            scores = yield [{"interactions": candidate} for candidate in candidates]
            best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
            if not scores[best] > score + self.least_gain:  # NaN if all have failed
                return
            kept, score = candidates[best], scores[best]

    def search(self, problem):
        evaluations = problem.evaluate(
            self.policy(problem), score=HeldOutScore(self.realise, fraction=0.3, epochs=4)
        )
        # The pair that ended the search may have helped a little: then the candidate before it.
        scores, architectures = evaluations.scores, evaluations.architectures
        enough = np.nanmax(scores) - self.least_gain
        good = [a for a, score in zip(architectures, scores, strict=True) if score >= enough]
        pairs = pair_index(problem.context.n_fields).T.tolist()
        alone = [a["interactions"] for a in architectures[1 : 1 + len(pairs)]]
        gains = [float(score - scores[0]) for score in scores[1 : 1 + len(pairs)]]
        return {
            "interactions": min((a["interactions"] for a in good), key=len),
            "candidates": [pair for (pair,) in alone],
            "scores": gains,
        }


# Planted answers ---------------------------------------------------------------------------------


def planted_fields(n_rows, seed):
    """A table in which fields 1 and 4 of six count, each for itself."""
    effects = {"pairs": 0, "informative_fields": [1, 4], "main_effect": 1.0}
    return make_ctr(n_rows, n_fields=6, cardinality=8, random_state=seed, **effects)[:2]


def planted_pairs(n_rows, pairs, seed):
    """A table of five fields, of which some pairs count and no field for itself."""
    effects = {"pairs": pairs, "pair_effect": 2.0}
    return make_ctr(n_rows, n_fields=5, cardinality=6, random_state=seed, **effects)[:2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    for seed in range(args.seeds):
        options = {**OPTIONS, "random_state": seed}
        for method, table in (
            (FieldGates(), planted_fields(args.rows, seed)),
            (DrawnPair(), planted_pairs(args.rows, [(1, 3)], seed)),
            (GreedyPairs(), planted_pairs(args.rows, [(0, 1), (2, 4)], seed)),
        ):
            start = time.process_time()
            model = CTRClassifier(search=method, **options).fit(*table)
            found = model.selected_fields_ if method.narrows else model.interactions_
            print(f"{method!r}: {found}, {time.process_time() - start:.1f} s", flush=True)
            scores = model.field_scores_ if method.narrows else model.interaction_scores_
            print({k: round(float(v), 3) for k, v in scores.items()})


if __name__ == "__main__":
    main()
