"""Searched networks that serve without being trained again, whole or in part."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import _search_phase
from sklearn_autorec.estimators import _stages
from sklearn_autorec.exceptions import NonFiniteLossError
from sklearn_autorec.networks import FM, AutoInt, DeepFM
from sklearn_autorec.nn import BatchNorm, BinaryLogLoss, FieldEmbedding, linear

OPTIONS = {
    "embedding_dim": 3,
    "lr": 0.02,
    "max_epochs": 2,
    "search_epochs": 2,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
    "wide": None,
    "target_statistics": False,
}


class Searchable(nn.Module):
    def __init__(self, context):
        super().__init__()
        self.table = FieldEmbedding(context)
        self.norm = BatchNorm(context.embedding_dim)
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        e = self.table(inputs) * self.factor
        return self.norm(e.flatten(0, 1)).view_as(e)


class Concrete(nn.Module):
    """The same without the factor."""

    def __init__(self, context):
        super().__init__()
        self.rows = FieldEmbedding(context)
        self.norm = BatchNorm(context.embedding_dim)

    def forward(self, inputs):
        e = self.rows(inputs)
        return self.norm(e.flatten(0, 1)).view_as(e)


class Folding(SearchMethod):
    """Its searchable part has other names and one factor more than the concrete one."""

    slot = "embedding"

    def __init__(self, retrain="none", forgets=None):
        self.retrain = retrain
        self.forgets = forgets

    def build(self, context):
        return Searchable(context)

    def derive(self, module, context):
        return {"factor": module.factor.item()}

    def realise(self, architecture, context):
        return Concrete(context)

    def transfer(self, state, architecture, context):
        assert architecture["method"].endswith("Folding") and context.n_fields == 3
        state = dict(state)
        factor = state.pop("embedding.factor")
        for name in [name for name in state if name.startswith("embedding.table.")]:
            state[name.replace(".table.", ".rows.")] = state.pop(name) * factor
        state.pop(self.forgets, None)
        return state


class Head(nn.Module):
    def set_widths(self, n_in, n_out, generator):
        self.layer = linear(n_in, n_out, generator)

    def forward(self, x):
        return self.layer(x)


class Plain(SearchMethod):
    """A head like any other."""

    slot = "head"

    def __init__(self, retrain="none"):
        self.retrain = retrain

    def build(self, context):
        return Head()

    def derive(self, module, context):
        return {"width": module.layer.in_features}

    def realise(self, architecture, context):
        return Head()


class Untrained(Plain):
    def search(self, problem):
        return {"width": 0}


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.reference, self.scale = BinaryLogLoss(), nn.Parameter(torch.ones(()))

    def forward(self, logits, y):
        return self.reference(logits, y) + (self.scale - 2).square()


class Loss(Plain):
    slot = "loss"

    def build(self, context):
        return Scaled()

    def derive(self, module, context):
        return {"scale": module.scale.item()}

    def realise(self, architecture, context):
        return Scaled()


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(240, n_fields=3, cardinality=5, pairs=[(0, 1)], random_state=0)[:2]


@pytest.fixture
def spied(monkeypatch):
    """The problems of all searches, and the weights before each final training."""
    problems, starts = [], []
    real_train = _stages.train

    class Problem(_search_phase.SearchProblem):
        def __init__(self, *args):
            super().__init__(*args)
            problems.append(self)

        def train(self, *args, **kwargs):
            self.result = super().train(*args, **kwargs)
            return self.result

    def train(net, *args, **kwargs):
        starts.append({n: t.detach().clone() for n, t in net.module.state_dict().items()})
        return real_train(net, *args, **kwargs)

    monkeypatch.setattr(_search_phase, "SearchProblem", Problem)
    monkeypatch.setattr(_stages, "train", train)
    return problems, starts


def fit(network, search, clicks, **options):
    return CTRClassifier(network=network, search=search, **{**OPTIONS, **options}).fit(*clicks)


def searched_probabilities(problem, model, X):
    module = problem.result.net.module_.eval()
    with torch.no_grad():
        logits = module(
            torch.from_numpy(model.encoder_.encode(X).ids),
            torch.zeros(len(X), 0),
            torch.zeros(len(X), 0, dtype=torch.int32),
        )
    return torch.sigmoid(logits[:, 0]).numpy()


def test_the_searched_network_serves_by_what_the_hook_makes_of_it(clicks, spied):
    X, y = clicks
    model = fit(FM(), Folding(), clicks)
    (problem,), starts = spied
    assert not starts and model.history_ == [] and model.n_iter_ == 0
    assert len(problem.data) == len(X)  # nobody stops early: no row is held out for it
    assert model.architecture_["embedding"]["factor"] != 1
    p = model.predict_proba(X)[:, 1]
    np.testing.assert_allclose(p, searched_probabilities(problem, model, X), rtol=1e-5)
    assert [r["epoch"] for r in model.search_history_] == [1, 2] and p.std() > 0.02
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X)[:, 1], p)
    # Of the same seed, other rules serve other weights.
    for other in ("scratch", "rewind", "keep"):
        assert (fit(FM(), Folding(other), clicks).predict_proba(X)[:, 1] != p).any()
    # It may be trained on later.
    assert (model.partial_fit(X, y).predict_proba(X)[:, 1] != p).all()
    moved = model.net_.module_.state_dict()["embedding.rows.weight"]
    assert not torch.equal(moved, problem.final_state["embedding.rows.weight"])


def test_kept_and_rewound_weights_go_through_the_hook_too(clicks, spied):
    problems, starts = spied
    for rule, source in (("keep", "final_state"), ("rewind", "initial_state")):
        fit(FM(), Folding(rule), clicks)
        expected = getattr(problems[-1], source)["embedding.rows.weight"]
        assert torch.equal(starts[-1]["embedding.rows.weight"], expected)
    assert len(starts) == 2


def test_a_part_that_is_not_trained_again_rests_in_all_that_follows(clicks, spied):
    """In the search of the next part and in the final training, weights and batch statistics."""
    X, _ = clicks
    model = fit(AutoInt(hidden_units=()), [Folding(), Plain("scratch")], clicks)
    (first, second), (start,) = spied
    own = {n: t for n, t in first.final_state.items() if n.startswith("embedding.")}
    assert {n.split(".")[1] for n in own} == {"rows", "norm"} and len(own) >= 5
    final = model.net_.module_.state_dict()
    for name, t in own.items():
        for state in (second.initial_state, second.final_state, start, final):
            assert torch.equal(state[name], t), name
    for name in ("head.layer.weight", "out.weight"):
        assert not torch.equal(start[name], second.final_state[name])
        assert not torch.equal(final[name], start[name])
    assert len(model.history_) == model.n_iter_ == 2
    assert all(q.requires_grad for q in model.net_.module_.parameters())


def test_a_network_may_rest_around_a_part_that_is_trained(clicks, spied):
    model = fit(AutoInt(hidden_units=()), [Folding("keep"), Plain("none")], clicks)
    (first, second), (start,) = spied
    final = model.net_.module_.state_dict()
    assert torch.equal(start["embedding.rows.weight"], first.final_state["embedding.rows.weight"])
    assert not torch.equal(final["embedding.rows.weight"], start["embedding.rows.weight"])
    for name in ("head.layer.weight", "out.weight", "out.bias"):
        assert torch.equal(final[name], second.final_state[name]), name


@pytest.mark.parametrize("joint", [False, True])
def test_all_parts_of_several_may_serve_as_they_are(joint, clicks, spied):
    X, _ = clicks
    model = fit(AutoInt(hidden_units=()), [Folding(), Plain()], clicks, joint=joint)
    problems, starts = spied
    assert not starts and len(problems) == (1 if joint else 2)
    p = model.predict_proba(X)[:, 1]
    np.testing.assert_allclose(p, searched_probabilities(problems[-1], model, X), rtol=1e-5)


def test_a_loss_that_is_not_trained_again(clicks, spied):
    model = fit(FM(), [Loss("none"), Folding("scratch")], clicks)
    (first, second), (start,) = spied
    scale = first.final_state["loss.scale"]
    assert scale != 1 and second.final_state["loss.scale"] == model._loss_part_.scale == scale
    assert model.history_[-1]["slot_loss"] != model.history_[-1]["train_loss"]


def test_rows_that_judge_were_not_searched_on(clicks, spied):
    """Companions weigh the network by rows that it has not seen, also where all rows would judge in
    turn.
    """
    options = {"network": "auto", "wide": "auto", "target_statistics": "auto"}
    options |= {"max_epochs": 2, "search_epochs": 2, "early_stopping": "auto"}
    problems, _ = spied
    model = CTRClassifier(search=Folding(), **{**OPTIONS, **options}).fit(*clicks)
    assert len(problems[-1].data) == 216 and model.history_ == []
    X, y = clicks
    model = CTRClassifier(search=Folding(), **{**OPTIONS, **options, "validation": "last"})
    model.fit(X, y)
    assert len(problems[-1].data) == 216
    codes = model.encoder_.encode(X.iloc[:216]).ids
    np.testing.assert_array_equal(problems[-1].data.ids.numpy(), codes)


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupted_search_serves_what_it_has(at, clicks, monkeypatch):
    X, _ = clicks
    problems = []

    class Problem(_search_phase.SearchProblem):
        def __init__(self, *args):
            super().__init__(*args)
            problems.append(self)
            report = self.on_epoch

            def on_epoch(epoch, record):
                if epoch == at:
                    raise KeyboardInterrupt
                return report(epoch, record)

            self.on_epoch = on_epoch

        def train(self, *args, **kwargs):
            self.result = super().train(*args, **kwargs)
            return self.result

    monkeypatch.setattr(_search_phase, "SearchProblem", Problem)
    estimator = CTRClassifier(network=FM(), search=Folding(), **{**OPTIONS, "search_epochs": 4})
    with pytest.warns(UserWarning, match="was interrupted"):
        estimator.fit(*clicks)
    p = estimator.predict_proba(X)[:, 1]
    np.testing.assert_allclose(p, searched_probabilities(problems[0], estimator, X), rtol=1e-5)
    assert len(estimator.search_history_) == at + 1 and estimator.history_ == []


def test_weights_that_the_hook_forgets_are_missed_by_name(clicks):
    with pytest.raises(ValueError, match=r"'embedding.norm.weight' of shape \(3,\) is not there"):
        fit(FM(), Folding(forgets="embedding.norm.weight"), clicks)
    with pytest.raises(ValueError, match="'linear.weight' of shape"):
        fit(FM(), Folding(forgets="linear.weight"), clicks)
    # Where it is trained anew, nothing is missed.
    fit(FM(), [Folding("keep", forgets="embedding.norm.weight")], clicks)


def test_what_cannot_be_is_refused(clicks):
    with pytest.raises(ValueError, match="retrain='never'; it must be one of"):
        fit(FM(), Folding("never"), clicks)
    with pytest.raises(ValueError, match=r"members=2 needs members that are trained"):
        fit(FM(), Folding(), clicks, members=2)
    with pytest.raises(ValueError, match="its search trains no network"):
        fit(DeepFM(hidden_units=(4,)), Untrained(), clicks)


def test_a_search_that_diverges_leaves_nothing(clicks):
    with pytest.raises(NonFiniteLossError):
        fit(FM(), Folding(), clicks, lr=1e30)
