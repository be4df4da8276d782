"""AutoFeature: an operation for every pair of fields, found by evolution that a tree of Naive Bayes
classifiers guides.
"""

from numbers import Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import at_least_one, constraints_of
from ..engine import HeldOutScore
from ..nn import OPERATORS as PAIR_OPERATORS
from ..nn import PairDots, pair_index
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._naive_bayes_tree import tree_search
from ._products import ScoredTuples, check_pairs_exist, check_tuples

OPERATIONS = ("none", "add", "product", "concat", "inner")
RIDGE = 1.0  # of the regression that ranks pairs
FUNCTIONS = {"add": "plus", "product": "hadamard", "concat": "concat"}  # before weights and layers


class PairNetworks(nn.Module):
    """Small networks of chosen pairs side by side; (B, F, d), inputs -> (B, K).

    Those of a kind are computed together. Products begin with weights of 1, so that their sum is
    that of a factorization machine; the others begin at zero.

    Parameters
    ----------
    pairs : list of (int, int)
    operations : list of list of str
        Of each pair, out of `OPERATIONS`.
    context : BuildContext
    """

    def __init__(self, pairs, operations, context):
        super().__init__()
        d, generator = context.embedding_dim, context.generator
        self.kinds, self.weight = [], nn.ParameterDict()
        self.pairs = [tuple(pair) for pair in pairs]
        self.dots, self.out_dim = None, 0
        for kind in OPERATIONS[1:]:
            own = [pair for pair, names in zip(pairs, operations, strict=True) if kind in names]
            if not own:
                continue
            index = torch.tensor(own, dtype=torch.int64).T.contiguous()
            self.kinds.append(kind)
            self.register_buffer(f"{kind}_pairs", index, persistent=False)
            shape = (len(own),) if kind == "inner" else (len(own), d)
            start = torch.ones if kind in ("inner", "product") else torch.zeros
            self.weight[kind] = nn.Parameter(start(shape))
            self.out_dim += self.weight[kind].numel()
            if kind == "inner":
                self.dots = PairDots(index, context.n_fields)
            if kind == "concat":
                std = (2 / (2 * d + d)) ** 0.5
                hidden = torch.empty(len(own), 2 * d, d).normal_(0, std, generator=generator)
                self.hidden = nn.Parameter(hidden)
                self.shift = nn.Parameter(torch.zeros(len(own), d))

    def interactions(self):
        """The pairs; each has networks of several numbers, and no one weight."""
        return [(pair, None) for pair in self.pairs]

    def forward(self, e, inputs):
        if not self.kinds:
            return e.new_zeros(e.shape[0], 0)
        return torch.cat([self._outputs(kind, e).flatten(1) for kind in self.kinds], 1)

    def _outputs(self, kind, e):
        weight = self.weight[kind]
        if kind == "inner":
            return self.dots(e) * weight
        left, right = (e.index_select(1, fields) for fields in getattr(self, f"{kind}_pairs"))
        made = PAIR_OPERATORS[FUNCTIONS[kind]].made_of(left, right)
        if kind == "concat":
            both = made.transpose(0, 1)  # (K, B, 2 d)
            made = torch.relu(torch.bmm(both, self.hidden).transpose(0, 1) + self.shift)
        return made * weight


class PricedScore(HeldOutScore):
    """The score of a held-out part of the rows, less a price for every operation."""

    def __init__(self, price, *args, **options):
        super().__init__(*args, **options)
        self.price = price

    def __call__(self, problem, architecture):
        n_operations = sum(map(len, architecture["operations"]))
        return super().__call__(problem, architecture) - self.price * n_operations


class AutoFeature(ScoredTuples, SearchMethod):
    r"""Find, by evolution, which pairs of fields interact and by which operation.

    A candidate is a string of choices: for every pair, in a fixed order, one of five operations on
    its two embeddings (or several, ``n_slots``):

    - "none": nothing;
    - "add": :math:`w \odot (e_i + e_j)`;
    - "product": :math:`w \odot e_i \odot e_j`;
    - "concat": :math:`w \odot \mathrm{ReLU}(W [e_i; e_j] + b)`, as in PIN;
    - "inner": :math:`w \langle e_i, e_j \rangle`, as in FM and PNN.

    A pair that has nothing but "none" is dropped. After ``n_initial`` random candidates a tree of
    Naive Bayes classifiers sorts the strings evaluated so far into better and worse ones. A leaf is
    chosen by the Chinese restaurant process, in favour of those with many good strings; its two
    best ones are crossed over at the midpoint and mutated until the child belongs to that leaf. The
    best candidate is trained anew on all rows.

    It fits networks with an "interaction" slot: FM, DeepFM, FwFM, IPNN.

    Parameters
    ----------
    n_slots : int, default=1
        Operations of a pair, at most; their outputs stand side by side.
    max_evaluations : int, default=100
        Candidates that are trained.
    n_initial : int, default=30
        Random candidates among them.
    tree_depth : int, default=4
        Depth of the tree.
    concentration : float, default=1.0
        Of the Chinese restaurant process; larger explores other leaves more often.
    n_mutations : int, default=2
        Choices of a child that are drawn anew.
    n_children : int, default=5
        Candidates between two trees, which may be evaluated at a time.
    epochs : int, default=1
        Epochs of the training of a candidate.
    price : float, default=0.001
        By how much an operation must lower the loss of the rows that judge to be worth keeping.
    train_share : float in (0, 1], default=1.0
        Share of the rows, other than those that judge, on which candidates train.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows by which candidates are judged.
    n_jobs : int or None, default=None
        Candidates at a time, in processes. The result does not depend on it; see the notes.
    max_time : float or None, default=None
        Seconds after which no candidate begins.

    Notes
    -----
    All candidates begin with the weights of one network of all inner products, trained for the
    epochs of the search on the rows that do not judge: all but those of the interactions
    themselves, and those that have another shape. So a short training is enough to compare them.
    All train on the same rows in the same order.

    ``interaction_scores_`` say by how much candidates that keep a pair score better, in a ridge
    regression of the scores on the pairs that are kept. ``search_history_`` has a record a
    candidate.

    There is no public code, and the paper's sizes, operations and defaults were not at hand: the
    operations are those of the networks which the paper says its space covers (PIN, PNN, DeepFM),
    and all defaults are ours, and so is the shared start. Without ``n_jobs`` a candidate computes
    with all threads that torch has, else with one, so that the last bits may differ between these
    two.

    References
    ----------
    .. [1] Khawar, F. et al. "AutoFeature: Searching for Feature Interactions and Their
       Architectures for Click-through Rate Prediction", CIKM 2020.
       https://doi.org/10.1145/3340531.3411912

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, _ = datasets.make_ctr(2000, n_fields=3, cardinality=5, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.AutoFeature(max_evaluations=20, n_initial=10)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, lr=0.02, max_epochs=4, batch_size=64, random_state=0
    ... )
    >>> ("f0", "f1") in model.fit(X, y).interactions_, len(model.search_history_)
    (True, 24)
    """

    slot = "interaction"
    _parameter_constraints = {
        **at_least_one("n_slots", "n_initial", "tree_depth", "n_mutations", "n_children"),
        **constraints_of(
            "max_evaluations", "epochs", "train_share", "search_fraction", "n_jobs", "max_time"
        ),
        "concentration": [Interval(Real, 0, None, closed="left")],
        "price": [Interval(Real, 0, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        n_slots=1,
        max_evaluations=100,
        n_initial=30,
        tree_depth=4,
        concentration=1.0,
        n_mutations=2,
        n_children=5,
        epochs=1,
        price=0.001,
        train_share=1.0,
        search_fraction=0.2,
        n_jobs=None,
        max_time=None,
    ):
        """Store the parameters."""

    def policy(self, problem):
        context = problem.context
        pairs = pair_index(context.n_fields).T.tolist()
        seed = int(torch.randint(2**62, (), generator=context.generator))
        search = tree_search(
            len(pairs) * self.n_slots,
            len(OPERATIONS),
            np.random.default_rng(seed),
            n_initial=self.n_initial,
            depth=self.tree_depth,
            concentration=self.concentration,
            n_mutations=self.n_mutations,
            n_children=self.n_children,
        )
        scores = None
        while True:
            try:
                strings = search.send(scores)
            except StopIteration:  # every string was tried
                return
            scores = yield [candidate(string, pairs) for string in strings]

    def search(self, problem):
        context = problem.context
        check_pairs_exist("AutoFeature", context)
        score = PricedScore(
            self.price, self.realise, self.search_fraction, self.train_share, epochs=self.epochs
        )
        pairs = pair_index(context.n_fields).T.tolist()
        whole = {"interactions": pairs, "operations": [["inner"]] * len(pairs)}
        score.start = self._shared_start(problem, score, whole)
        if problem.interrupted:
            return {**whole, "candidates": pairs, "scores": [0.0] * len(pairs)}
        evaluations = problem.evaluate(
            self.policy(problem),
            score=score,
            n_jobs=self.n_jobs,
            max_time=self.max_time,
            max_evaluations=self.max_evaluations,
        )
        return {
            **evaluations.best,
            "candidates": pairs,
            "scores": keeping_effects(evaluations, pairs),
        }

    def _shared_start(self, problem, score, whole):
        """Weights of the network of an architecture, without those that depend on the candidate;
        None if it was interrupted.
        """
        rows, _ = score.rows(problem)
        problem.train(self.realise(whole, problem.context), rows=rows)
        if problem.interrupted:
            return None
        trained = problem.final_state
        # A network without interactions has the shapes that all candidates have in common.
        empty = self.realise({"interactions": [], "operations": []}, problem.context)
        problem.train(empty, rows=rows, epochs=0)
        shapes = {name: t.shape for name, t in problem.final_state.items()}
        return {
            name: t.cpu().numpy()
            for name, t in trained.items()
            if shapes.get(name) == t.shape and not name.startswith("interaction.")
        }

    def check(self, architecture, context):
        check_tuples(architecture, context)
        pairs, operations = architecture["interactions"], architecture.get("operations")
        if any(len(pair) != 2 for pair in pairs) or len({tuple(p) for p in pairs}) < len(pairs):
            raise ValueError(f"interactions must be pairs, each once, got {pairs!r:.200}.")
        if not isinstance(operations, list) or len(operations) != len(pairs):
            raise ValueError(
                f"operations must be a list of {len(pairs)}, one entry a pair, got "
                f"{operations!r:.200}."
            )
        for names in operations:
            known = isinstance(names, list) and all(name in OPERATIONS[1:] for name in names)
            if not known or not names or len(set(names)) < len(names):
                raise ValueError(
                    f"the operations of a pair must be a list of different names out of "
                    f"{OPERATIONS[1:]}, got {names!r:.200}."
                )

    def realise(self, architecture, context):
        return PairNetworks(architecture["interactions"], architecture["operations"], context)


def candidate(string, pairs):
    """A string of choices as a plain architecture. Two strings of one meaning give the same."""
    kept = {}
    for pair, choices in zip(pairs, np.reshape(string, (len(pairs), -1)), strict=True):
        names = [OPERATIONS[k] for k in sorted({*choices.tolist()} - {0})]
        if names:
            kept[tuple(pair)] = names
    return {"interactions": [list(pair) for pair in kept], "operations": list(kept.values())}


def keeping_effects(evaluations, pairs):
    """By how much candidates that keep a pair score better than others, all pairs fitted together:
    a ridge regression, by which pairs that come along with good ones get no credit; list of floats.
    """
    kept_pairs = [{tuple(pair) for pair in a["interactions"]} for a in evaluations.architectures]
    kept = np.array([[float(tuple(pair) in own) for pair in pairs] for own in kept_pairs])
    scores = np.array(evaluations.scores, dtype=float)
    valid = np.isfinite(scores)
    kept, scores = kept[valid], scores[valid]
    kept, scores = kept - kept.mean(0), scores - scores.mean()
    # Of more pairs than candidates the smaller system is solved.
    if len(kept) < len(pairs):
        weights = np.linalg.solve(kept @ kept.T + RIDGE * np.eye(len(kept)), scores)
        return (kept.T @ weights).tolist()
    gram = kept.T @ kept + RIDGE * np.eye(len(pairs))
    return np.linalg.solve(gram, kept.T @ scores).tolist()
