"""Training control of the estimators."""

import copy
import pickle

import numpy as np
import pytest
from estimators_cases import clicks_of_five, quick
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from sklearn_autorec.embedding import PEP
from sklearn_autorec.exceptions import (
    ConvergenceWarning,
    NonFiniteLossError,
)
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.networks import DeepFM, MLPNetwork
from sklearn_autorec.nn import PackedEmbedding
from sklearn_autorec.preprocessing import FieldEncoder


@pytest.fixture(scope="module")
def clicks():
    return clicks_of_five()


def test_early_stopping_on_a_split_or_on_given_rows(clicks):
    X, y, _ = clicks
    model = quick(early_stopping=True, max_epochs=40, patience=1, lr=0.03).fit(X, y)
    losses = [r["valid_loss"] for r in model.history_]
    assert model.n_iter_ == int(np.argmin(losses)) + 1 < len(losses) < 40
    given = quick(max_epochs=40, patience=1, lr=0.03, monitor="auc").fit(
        X[:2000], y[:2000], X_val=X[2000:], y_val=y[2000:]
    )
    scores = [r["valid_score"] for r in given.history_]
    p = given.predict_proba(X[2000:])[:, 1]
    assert roc_auc_score(y[2000:], p) == pytest.approx(max(scores), abs=1e-9)
    assert "valid_loss" not in quick().fit(X, y).history_[0]  # "auto": too few rows
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        quick().fit(X, y, X_val=X)


def test_warm_start_goes_on_to_max_epochs(clicks):
    X, y, _ = clicks
    model = quick(warm_start=True, max_epochs=2).fit(X, y)
    assert model.n_iter_ == 2
    first = model.history_[-1]["train_loss"]
    model.set_params(max_epochs=5).fit(X, y)
    assert model.n_iter_ == 5 and len(model.history_) == 5
    assert model.history_[2]["train_loss"] < first


def test_the_width_of_a_network_that_goes_on_is_its_own(clicks):
    X, y, _ = clicks
    model = quick(max_epochs=1, warm_start=True).fit(X, y)
    ratio = model.compression_ratio_
    model.set_params(embedding_dim=64)  # which no network has
    assert model.partial_fit(X[:500], y[:500]).compression_ratio_ == ratio == 1
    assert model.set_params(max_epochs=3).fit(X, y).compression_ratio_ == ratio
    assert model.architecture_["embedding_dim"] == 4


def test_partial_fit_streams_chunks(clicks):
    X, y, _ = clicks
    model = quick(network="fm", encoder=FrozenEstimator(FieldEncoder().fit(X)))
    for _ in range(4):
        for start in range(0, 3000, 500):
            model.partial_fit(X[start : start + 500], y[start : start + 500], classes=[0, 1])
    assert model.n_iter_ == 24
    assert roc_auc_score(y, model.predict_proba(X)[:, 1]) > 0.7
    smaller = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(smaller.predict_proba(X), model.predict_proba(X))
    smaller.partial_fit(X[:500], y[:500])
    with pytest.raises(ValueError, match=r"y has labels \[7\], which are not in classes \[0, 1\]"):
        model.partial_fit(X[:2], [0, 7])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        quick().partial_fit(X, y)
    with pytest.raises(ValueError, match="partial_fit cannot start with search=AutoFIS"):
        quick(search=AutoFIS()).partial_fit(X, y, classes=[0, 1])


def streamed(model, X, y, through, n=4, how="partial_fit", **changed):
    """Four epochs more; from the third on with changed parameters."""
    for k in range(n):
        if k == 2:
            model.set_params(**changed)
        model = through(model)
        if how == "partial_fit":
            model.partial_fit(X, y)
        else:
            model.set_params(warm_start=True, max_epochs=model.n_iter_ + 1).fit(X, y)
    return model


@pytest.mark.parametrize("rows", ["all", "of a batch"])
@pytest.mark.parametrize(
    "through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
def test_partial_fit_goes_on_in_a_copy_bit_for_bit(clicks, rows, through):
    X, y, _ = clicks
    if rows == "of a batch":
        X = X[["f0", "f1"]].assign(user=np.arange(3000).astype(str))
    model = quick(
        network=DeepFM(hidden_units=(8,)),
        batch_size=512 if rows == "all" else 64,
        embedding_l2=1e-3,
    )
    X, y = X[:2000], y[:2000]
    first = model.partial_fit(X, y, classes=[0, 1])
    assert first.net_.module_.embedding.sparse == (rows != "all")
    # The same again, since a copy of the first would prove nothing about copies.
    second = clone(first).partial_fit(X, y, classes=[0, 1])
    third = clone(first).partial_fit(X, y, classes=[0, 1])
    plain = streamed(first, X, y, lambda m: m)
    np.testing.assert_array_equal(
        streamed(second, X, y, through).predict_proba(X), plain.predict_proba(X)
    )
    np.testing.assert_array_equal(
        streamed(third, X, y, through, how="fit").predict_proba(X), plain.predict_proba(X)
    )


LIVE = [
    {"lr": 0.1},
    {"embedding_l2": 0.1},
    {"weight_decay": 0.1},
    {"batch_size": 100},
    {"id_dropout": 0.3},
    {"class_weight": {0: 1, 1: 3}},
    {"random_state": 5},
    {"network__dropout": 0.6},
]

FIXED = [
    {"embedding_dim": 9},
    {"network__hidden_units": (3,)},
    {"averaging": 0.9},
    {"lr_schedule": "cosine"},
]


@pytest.mark.parametrize("changed", LIVE + FIXED, ids=str)
def test_which_parameters_partial_fit_obeys_on_a_live_model(clicks, changed):
    X, y, _ = clicks
    X, y = X[:300], y[:300]
    start = quick(network=DeepFM(hidden_units=(8,))).partial_fit(X, y, classes=[0, 1])
    plain, other, copied = (
        streamed(clone(start).partial_fit(X, y, classes=[0, 1]), X, y, through, **options)
        for through, options in (
            (lambda m: m, {}),
            (lambda m: m, changed),
            (copy.deepcopy, changed),
        )
    )
    same = np.array_equal(plain.predict_proba(X), other.predict_proba(X))
    assert same == (changed in FIXED)
    if changed in LIVE:
        warm = streamed(
            clone(start).partial_fit(X, y, classes=[0, 1]),
            X,
            y,
            copy.deepcopy,
            how="fit",
            **changed,
        )
        np.testing.assert_array_equal(warm.predict_proba(X), other.predict_proba(X))
    np.testing.assert_array_equal(copied.predict_proba(X), other.predict_proba(X))
    expected = 0.6 if "network__dropout" in changed else 0.2
    described = {
        "hidden_units": [8],
        "dropout": expected,
        "batch_norm": True,
        "n_cross_layers": 0,
        "cross_rank": 16,
    }
    assert other.architecture_["network"]["params"] == described


def test_a_warm_start_after_a_pruning_search_has_new_moments(clicks):
    X, y, _ = clicks
    X, y = X[:600], y[:600]
    model = quick(network="fm", search=PEP(), max_epochs=3, warm_start=True).fit(X, y)
    assert isinstance(model.net_.module_.embedding, PackedEmbedding) and not hasattr(
        model, "_stream"
    )
    copied = copy.deepcopy(model)
    for m in (model, copied):
        m.set_params(max_epochs=4).fit(X, y).set_params(max_epochs=5).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), copied.predict_proba(X))
    assert not hasattr(quick().fit(X, y), "_stream")  # pickles of a plain fit hold no moments


def test_a_warm_start_begins_its_own_cosine(clicks):
    X, y, _ = clicks
    model = quick(lr_schedule="cosine", warm_start=True, max_epochs=1).fit(X[:600], y[:600])
    before = model.predict_proba(X)
    moved = model.set_params(max_epochs=2).fit(X[:600], y[:600]).predict_proba(X)
    assert np.abs(moved - before).max() > 1e-3


def test_partial_fit_refuses_a_parameter_set_wrong_on_a_live_model(clicks):
    X, y, _ = clicks
    model = quick(network=DeepFM(hidden_units=(8,))).partial_fit(X[:200], y[:200], classes=[0, 1])
    with pytest.raises(ValueError, match="'lr' parameter"):
        model.set_params(lr=-1.0).partial_fit(X[:200], y[:200])
    with pytest.raises(ValueError, match="'dropout' parameter"):
        model.set_params(lr=0.1, network__dropout=1.5).partial_fit(X[:200], y[:200])


def test_partial_fit_goes_on_from_a_searched_model(clicks):
    X, y, _ = clicks
    model = quick(search=RandomInteractions(n_interactions=3)).fit(X, y)
    found = model.interactions_
    before = model.predict_proba(X)
    model.partial_fit(X, y)
    assert model.interactions_ == found and model.n_iter_ == 3
    assert not np.array_equal(model.predict_proba(X), before)


def test_large_tables_are_trained_row_by_row(clicks):
    X, y, _ = clicks
    wide = X.assign(user=np.arange(3000) % 2500)
    model = quick(network="fm", batch_size=8, max_epochs=3)
    model.fit(wide, y)
    assert model.net_.module_.embedding.sparse
    assert model.history_[-1]["train_loss"] < model.history_[0]["train_loss"]
    assert not quick(network="fm", batch_size=1024).fit(wide, y).net_.module_.embedding.sparse


class Divergent(MLPNetwork):
    """An MLP that returns NaN from its n-th training batch on."""

    def __init__(self, after=0):
        super().__init__((4,), 0.0, False)
        self.after = after

    def build(self, context, parts):
        module = super().build(context, parts)
        module.register_forward_hook(_Poison(self.after))
        return module


class _Poison:
    def __init__(self, after):
        self.after = after

    def __call__(self, module, args, output):
        self.after -= module.training
        return output * float("nan") if self.after < 0 else output


def test_non_finite_losses(clicks):
    X, y, _ = clicks
    with pytest.raises(
        NonFiniteLossError, match=r"loss became nan at step 1 of epoch 1; a smaller lr \(now 0.01\)"
    ):
        quick(network=Divergent()).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="weights of epoch 1 are kept"):
        model = quick(network=Divergent(after=50), max_epochs=4).fit(X, y)
    assert model.n_iter_ == 1


@pytest.mark.parametrize("at", [1, 30, 100, 150])
def test_ctrl_c_leaves_a_usable_model(clicks, at, monkeypatch):
    from sklearn_autorec.engine import FieldNet

    X, y, _ = clicks
    real, calls = FieldNet.train_step, []

    def step(self, batch, **kwargs):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(self, batch, **kwargs)

    monkeypatch.setattr(FieldNet, "train_step", step)
    model = quick(search=AutoFIS(), max_epochs=2)  # 47 steps an epoch: the search ends at step 94
    if at < 47:  # no epoch is finished, there is no model
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
        assert not [name for name in vars(model) if name.endswith("_")]
        with pytest.raises(NotFittedError):
            model.predict_proba(X)
    else:
        with pytest.warns(UserWarning, match="Training was interrupted"):
            model.fit(X, y)
        assert model.n_iter_ == (0 if at <= 141 else 1)
        # In the first epoch of the final training the weights are those of the search, not random
        # ones.
        assert roc_auc_score(y, model.predict_proba(X)[:, 1]) > 0.6
    monkeypatch.undo()
    np.testing.assert_array_equal(
        model.fit(X, y).predict_proba(X), quick(search=AutoFIS()).fit(X, y).predict_proba(X)
    )


class WithLambda(MLPNetwork):
    def __init__(self):
        super().__init__((4,))
        self.hook = lambda x: x


def test_what_cannot_be_saved_is_refused_at_once(clicks):
    X, y, _ = clicks
    with pytest.raises(ValueError, match="network=WithLambda.* cannot be pickled"):
        quick(network=WithLambda()).fit(X, y)
