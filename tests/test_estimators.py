"""The two estimators as a user meets them."""

import copy
import multiprocessing
import pickle
import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from processes import printed
from sklearn import set_config
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP
from sklearn_autorec.exceptions import (
    ConvergenceWarning,
    NonFiniteLossError,
    SingleClassWarning,
    UnknownCategoryWarning,
)
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.networks import FM, DeepFM, MLPNetwork
from sklearn_autorec.nn import PackedEmbedding
from sklearn_autorec.preprocessing import FieldEncoder

SMALL = DeepFM(hidden_units=(16,))


@pytest.fixture(scope="module")
def clicks():
    options = {"cardinality": 8, "pairs": 2, "informative_fields": 2, "random_state": 0}
    return make_ctr(3000, n_fields=5, n_numeric=1, n_sequences=1, **options)


def quick(**options):
    return CTRClassifier(
        **{
            "network": SMALL,
            "embedding_dim": 4,
            "lr": 0.01,
            "max_epochs": 2,
            "random_state": 0,
            "device": "cpu",
            **options,
        }
    )


# what it learns
# --------------------------------------------------------------------------------------------


def test_comes_near_the_bayes_error_and_a_shuffled_control_does_not():
    X, y, truth = make_ctr(
        20_000, n_fields=5, cardinality=8, pairs=2, informative_fields=2, random_state=1
    )
    half = slice(0, 15_000)
    rest = slice(15_000, None)
    model = quick(network="fm", max_epochs=6, batch_size=128).fit(X[half], y[half])
    p = model.predict_proba(X[rest])[:, 1]
    assert roc_auc_score(y[rest], p) > roc_auc_score(y[rest], truth.probabilities[rest]) - 0.03
    control = quick(network="fm", max_epochs=2).fit(
        X[half], np.random.default_rng(0).permutation(y[half])
    )
    assert abs(roc_auc_score(y[rest], control.predict_proba(X[rest])[:, 1]) - 0.5) < 0.1


@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 1], [False, True], [0.0, 1.0]])
def test_labels_of_any_kind(clicks, labels):
    X, y, _ = clicks
    y = np.array(labels)[y]
    model = quick().fit(X, y)
    assert model.classes_.tolist() == labels and model.predict(X).dtype == y.dtype
    p, d = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-d)))
    assert ((p[:, 1] > 0.5) == (model.predict(X) == labels[1])).all()


def test_many_classes():
    four = {"task": "multiclass", "n_classes": 4, "pair_effect": 3.0}
    X, y, truth = make_ctr(4000, n_fields=4, cardinality=6, pairs=1, random_state=0, **four)
    model = quick(max_epochs=6).fit(X, np.array(list("abcd"))[y])
    p = model.predict_proba(X)
    assert p.shape == (4000, 4) and model.decision_function(X).shape == (4000, 4)
    np.testing.assert_allclose(p.sum(1), 1)
    assert log_loss(y, p) < np.log(4) - 0.25
    with pytest.raises(ValueError, match="monitor='auc' needs two classes, y has 4"):
        quick(monitor="auc").fit(X, y)


def test_ratings_in_their_own_units():
    X, y, truth = make_ctr(
        6000, n_fields=4, cardinality=6, pairs=1, pair_effect=1.0, task="rating", random_state=0
    )
    for shift, scale in ((0, 1), (1000, 50)):
        model = RatingRegressor(network="fm", lr=0.01, max_epochs=6, random_state=0).fit(
            X, y * scale + shift
        )
        assert model.score(X, y * scale + shift) > 0.35  # half of the variance is noise
        assert model.predict(X).mean() == pytest.approx(3 * scale + shift, rel=0.1)


def test_class_weight_shifts_the_mean_prediction(clicks):
    X, y, _ = clicks
    plain, balanced = (
        quick(network="lr", class_weight=w, max_epochs=5).fit(X, y).predict_proba(X)[:, 1].mean()
        for w in (None, "balanced")
    )
    assert plain == pytest.approx(y.mean(), abs=0.05) and balanced == pytest.approx(0.5, abs=0.05)


# weights
# --------------------------------------------------------------------------------------------------

FULL_BATCH = {
    "network": MLPNetwork((8,), dropout=0.0, batch_norm=False),
    "batch_size": 10**6,
    "id_dropout": 0.0,
    "max_epochs": 30,
}


def weighted_case():
    X, y, _ = make_ctr(200, n_fields=3, cardinality=4, pairs=1, random_state=0)
    return X, y, np.random.default_rng(0).integers(0, 4, 200)


@pytest.mark.parametrize("kind", [CTRClassifier, RatingRegressor])
def test_weights_equal_repetition_in_full_batches(kind):
    X, y, w = weighted_case()
    options = {**FULL_BATCH, "lr": 0.01, "random_state": 0}
    rows = np.repeat(np.arange(200), w)
    a = kind(**options).fit(X, y, sample_weight=w)
    b = kind(**options).fit(X.iloc[rows], y[rows])
    method = "predict_proba" if kind is CTRClassifier else "predict"
    weighted, repeated = getattr(a, method)(X), getattr(b, method)(X)
    np.testing.assert_allclose(weighted, repeated, atol=1e-5)
    assert np.abs(weighted - getattr(kind(**options).fit(X, y), method)(X)).max() > 1e-3


def test_unit_weights_are_no_weights_and_zeros_are_left_out(clicks):
    X, y, _ = clicks
    plain = quick().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(
        quick().fit(X, y, sample_weight=np.ones(len(y))).predict_proba(X), plain
    )
    w = (np.arange(len(y)) < 2000).astype(float)
    encoder = FrozenEstimator(FieldEncoder().fit(X))
    dropped = quick(encoder=encoder).fit(X[:2000], y[:2000]).predict_proba(X)
    np.testing.assert_array_equal(
        quick(encoder=encoder).fit(X, y, sample_weight=w).predict_proba(X), dropped
    )


@pytest.mark.parametrize(
    "weight, message",
    [(-1.0, "[Nn]egative"), (np.nan, "NaN"), (0.0, "positive value|all zeros|zero")],
)
def test_bad_weights_are_refused(clicks, weight, message):
    X, y, _ = clicks
    with pytest.raises(ValueError, match=message):
        quick().fit(X, y, sample_weight=np.full(len(y), weight))
    with pytest.raises(ValueError, match="shape"):
        quick().fit(X, y, sample_weight=np.ones(3))


# reproducibility
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", [None, AutoFIS()])
def test_one_seed_gives_the_same_bits(clicks, search):
    X, y, _ = clicks
    a, b, other = (quick(search=search, random_state=s).fit(X, y) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    assert a.architecture_ == b.architecture_
    assert not np.array_equal(a.predict_proba(X), other.predict_proba(X))


def test_the_same_bits_in_fresh_processes():
    code = (
        "import hashlib; from sklearn_autorec import CTRClassifier; from sklearn_autorec.datasets "
        "import make_ctr\n"
        "from sklearn_autorec.interaction import AutoFIS\n"
        "X, y, _ = make_ctr(800, n_fields=4, pairs=1, random_state=0)\n"
        "m = CTRClassifier(network='fm', search=AutoFIS(), max_epochs=1, random_state=0, "
        "device='cpu').fit(X, y)\n"
        "print(hashlib.sha256(m.predict_proba(X).tobytes()).hexdigest())"
    )
    assert printed(code, "0") == printed(code, "1") != ""


def test_global_generators_and_the_data_are_left_alone(clicks):
    X, y, _ = clicks
    # What must not change.
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    before = torch.random.get_rng_state(), state, random.getstate()
    copy_X, copy_y = X.copy(deep=True), y.copy()
    quick(search=AutoFIS()).fit(X, y).predict_proba(X)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
    pd.testing.assert_frame_equal(X, copy_X)
    np.testing.assert_array_equal(y, copy_y)


def test_prediction_does_not_depend_on_order_or_batch(clicks):
    X, y, _ = clicks
    model = quick().fit(X, y)
    p = model.predict_proba(X)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(model.predict_proba(X.iloc[order]), p[order])
    for i in (0, 7, 2999):
        np.testing.assert_array_equal(model.predict_proba(X.iloc[[i]]), p[[i]])


# training control
# ------------------------------------------------------------------------------------------


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


# bad input
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 1000, 3000])
def test_unseen_ids_get_a_trained_embedding(clicks, share):
    X, y, _ = clicks
    model = quick(max_epochs=6).fit(X, y)
    new = X.copy()
    new.loc[new.index[:share], [f"f{i}" for i in range(5)]] = "never seen"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownCategoryWarning)
        p = model.predict_proba(new)[:share, 1]
    assert ((p > 0) & (p < 1)).all() and (share == 1 or abs(p.mean() - y.mean()) < 0.2)
    if share == 3000:
        with pytest.warns(UnknownCategoryWarning, match="100% of column 'f0', 100% of column 'f1'"):
            model.predict(new)


def test_the_unknown_embedding_moves_only_with_id_dropout(clicks):
    X, y, _ = clicks
    row = 1  # id 1 of the first field
    moved = {}
    for rate in (0.0, 0.02):
        net = quick(network="fm", id_dropout=rate, embedding_l2=0.0)
        initial = (
            quick(network="fm", id_dropout=rate, max_epochs=1, lr=1e-30)
            .fit(X, y)
            .net_.module_.embedding.weight[row]
        )
        moved[rate] = (
            (net.fit(X, y).net_.module_.embedding.weight[row] - initial).abs().max().item()
        )
    assert moved[0.0] == 0 and moved[0.02] > 1e-3


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"a": ["x"] * 50}),
        pd.DataFrame({"a": [None] * 50}),
        pd.DataFrame({"a": [np.nan] * 50, "b": ["u", "v"] * 25}),
        pd.DataFrame({"a": np.arange(50.0)}),
        pd.DataFrame({"a": [[1, 2], []] * 25}),
        pd.DataFrame({"id": np.arange(50)}),
    ],
)
@pytest.mark.parametrize("network", ["fm", SMALL])
def test_odd_tables(X, network):
    y = np.arange(50) % 2
    p = quick(network=network).fit(X, y).predict_proba(X)
    assert np.isfinite(p).all() and p.shape == (50, 2)


def test_one_row_and_one_class():
    X = pd.DataFrame({"a": ["x", "y", "x"]})
    with pytest.warns(SingleClassWarning, match=r"single class \[1\]: nothing was trained"):
        one = quick().fit(X, [1, 1, 1])
    assert (one.predict(X) == 1).all() and one.predict_proba(X).tolist() == [[1.0]] * 3
    assert RatingRegressor(network=SMALL, max_epochs=1, random_state=0).fit(X[:1], [2.0]).predict(
        X[:1]
    ) == pytest.approx(2.0, abs=0.5)
    assert len(pickle.loads(pickle.dumps(one)).predict(X)) == 3
    with pytest.warns(SingleClassWarning, match=r"single class \['a'\]: nothing was trained"):
        quick().partial_fit(X, ["a", "a", "a"], classes=["a"])
    quick().partial_fit(X, ["a", "a", "a"], classes=["a", "b"])  # warnings are errors here


@pytest.mark.parametrize(
    "y", [[0, 1, np.nan], [0, 1, np.inf], [0.5, 0.1, 0.2], [[0, 1], [1, 0], [1, 1]], None]
)
def test_bad_targets(y):
    X = pd.DataFrame({"a": ["x", "y", "x"]})
    with pytest.raises((ValueError, TypeError)):
        quick().fit(X, y)


def test_a_validation_split_of_one_class_does_not_stop_a_search():
    X, y, _ = make_ctr(400, n_fields=3, pairs=0, base_rate=0.02, random_state=0)
    y = np.zeros(400, int)
    y[::100] = 1
    model = quick(early_stopping=True, monitor="auc", validation_fraction=0.1, max_epochs=2).fit(
        X, y
    )
    assert np.isnan(model.history_[0]["valid_score"]) and np.isfinite(model.predict_proba(X)).all()


def test_columns_must_be_those_of_fit(clicks):
    X, y, _ = clicks
    model = quick().fit(X, y)
    assert model.n_features_in_ == 7 and model.feature_names_in_.tolist() == X.columns.tolist()
    with pytest.raises(ValueError, match="missing:\n- f1"):
        model.predict(X.drop(columns="f1"))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[X.columns[::-1]])
    bad = X.copy()
    bad.loc[0, "x0"] = np.inf
    with pytest.raises(ValueError, match="column 'x0'"):
        model.predict(bad)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": 0}, "'lr' parameter of CTRClassifier must be None or a float in the range"),
        ({"batch_size": "big"}, "'batch_size' parameter of CTRClassifier"),
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"device": "tpu9"}, "device='tpu9' is not a device"),
        ({"network": "deepmf"}, "network='deepmf' is not known"),
        ({"search": [AutoFIS(), RandomInteractions()]}, "two methods for one slot"),
        ({"monitor": "accuracy"}, "'monitor' parameter"),
    ],
)
def test_bad_parameters_are_named(clicks, options, message):
    X, y, _ = clicks
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(X, y)


def test_wrong_kinds_of_objects_are_named(clicks):
    X, y, _ = clicks
    with pytest.raises((TypeError, ValueError), match="search"):
        quick(search=["autofis"]).fit(X, y)
    with pytest.raises((TypeError, ValueError), match="network"):
        quick(network=FM).fit(X, y)


# composition
# -----------------------------------------------------------------------------------------------


def add_cross(X):
    return X.assign(f0_f1=X["f0"] + "-" + X["f1"])


def test_pipeline_in_a_parallel_grid_search(clicks):
    X, y, _ = clicks
    pipe = Pipeline(
        [("cross", FunctionTransformer(add_cross)), ("ctr", quick(network="fm", max_epochs=1))]
    )
    grid = {
        "ctr__network": ["lr", "fm"],
        "ctr__search": [None, AutoFIS()],
        "ctr__embedding_dim": [2],
    }
    grid = [
        {**grid, "ctr__network": ["fm"]},
        {"ctr__network": ["lr", SMALL]},
        {"ctr__network": [SMALL], "ctr__network__dropout": [0.0, 0.5]},
    ]
    serial, parallel = (
        GridSearchCV(pipe, grid, cv=2, scoring="roc_auc", n_jobs=n, error_score="raise").fit(X, y)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(
        serial.cv_results_["mean_test_score"], parallel.cv_results_["mean_test_score"]
    )
    assert len(serial.cv_results_["params"]) == 6
    assert parallel.predict_proba(X).shape == (3000, 2)


def test_column_transformer_before_the_network(clicks):
    X, y, _ = clicks
    ids = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = ColumnTransformer(
        [("ids", ids, ["f0", "f1"]), ("rest", "passthrough", ["x0"])]
    ).set_output(transform="pandas")
    encoder = FieldEncoder(categorical_features=[0, 1])
    pipe = Pipeline([("prepare", prepare), ("ctr", quick(encoder=encoder))]).fit(X, y)
    assert pipe[-1].encoder_.categorical_.tolist() == [0, 1]


def test_sample_weight_is_routed_through_cross_validation(clicks):
    X, y, _ = clicks
    weight = np.where(X["f0"] == X["f0"].iloc[0], 5.0, 1.0)
    set_config(enable_metadata_routing=True)
    try:
        model = (
            quick(network="lr", lr=0.1)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        weighted = cross_val_score(
            model, X, y, cv=KFold(2), params={"sample_weight": weight}, error_score="raise"
        )
        plain = cross_val_score(quick(network="lr", lr=0.1), X, y, cv=KFold(2), error_score="raise")
    finally:
        set_config(enable_metadata_routing=False)
    assert not np.array_equal(weighted, plain)


def test_calibration_and_voting(clicks):
    X, y, _ = clicks
    calibrated = CalibratedClassifierCV(quick(network="fm"), cv=2).fit(X, y)
    assert calibrated.predict_proba(X).mean(0)[1] == pytest.approx(y.mean(), abs=0.05)
    members = [("a", quick(random_state=1)), ("b", quick(network="fm", random_state=2))]
    voting = VotingClassifier(members, voting="soft").fit(X, y)
    mean = np.mean([m.predict_proba(X) for m in voting.estimators_], axis=0)
    np.testing.assert_allclose(voting.predict_proba(X), mean)


def test_clone_and_nested_parameters():
    model = quick(
        network=DeepFM((8,)), search=AutoFIS(threshold=0.9), encoder=FieldEncoder(min_frequency=2)
    )
    copy = clone(model).set_params(
        search__threshold=0.5, network__dropout=0.1, encoder__min_frequency=3
    )
    assert (copy.search.threshold, copy.network.dropout, copy.encoder.min_frequency) == (
        0.5,
        0.1,
        3,
    )
    assert (model.search.threshold, model.network.dropout, model.encoder.min_frequency) == (
        0.9,
        0.2,
        2,
    )


# artifacts
# -------------------------------------------------------------------------------------------------


def test_nothing_of_the_search_is_left(clicks):
    X, y, _ = clicks
    model = quick(network="fm", search=AutoFIS(), embedding_dim=8).fit(X, y)
    names = {type(m).__name__ for m in model.net_.module_.modules()}
    assert "KeptProducts" in names and "GatedProducts" not in names
    data = pickle.dumps(model)
    for trace in (
        b"GRDA",
        b"GatedProducts",
        b"exp_avg",
        b"TrainingBatches",
        b"SearchProblem",
        b"NumericSummary",
    ):
        assert trace not in data
    assert model.net_.optimizer_ is None
    module = model.net_.module_
    assert model.n_parameters_ == sum(p.numel() for p in module.parameters())
    assert model.nbytes_["total"] == sum(
        t.numel() * t.element_size() for t in module.state_dict().values()
    )
    assert model.nbytes_["embedding"] == 4 * sum(p.numel() for p in module.embedding.parameters())


def test_pickle_is_as_large_as_parameters_and_vocabularies():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "user": [f"user-{i}" for i in rng.integers(0, 20_000, 30_000)],
            "item": rng.integers(0, 3000, 30_000),
        }
    )
    y = rng.integers(0, 2, 30_000)
    model = quick(network=DeepFM((64, 64)), embedding_dim=16, max_epochs=1, search=AutoFIS()).fit(
        X, y
    )
    vocabularies = sum(
        len(pickle.dumps((c, n)))
        for c, n in zip(model.encoder_.categories_, model.encoder_.counts_, strict=True)
    )
    assert len(pickle.dumps(model)) <= 1.1 * model.nbytes_["total"] + vocabularies + 10_000


def test_pickle_predicts_the_same_in_a_fresh_process(clicks, tmp_path):
    X, y, _ = clicks
    model = quick(search=AutoFIS()).fit(X, y)
    with open(tmp_path / "model.pkl", "wb") as f:
        pickle.dump(model, f)
    X.to_pickle(tmp_path / "X.pkl")
    code = (
        "import pickle, sys, numpy as np, pandas as pd\n"
        "model = pickle.load(open(sys.argv[1] + '/model.pkl', 'rb'))\n"
        "np.save(sys.argv[1] + '/p.npy', model.predict_proba(pd.read_pickle(sys.argv[1] + "
        "'/X.pkl')))"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict_proba(X))


def test_many_threads_predict_as_one(clicks):
    X, y, _ = clicks
    model = pickle.loads(pickle.dumps(quick(search=AutoFIS()).fit(X, y)))
    chunks = [X.iloc[i * 40 : i * 40 + (1 if i % 2 else 40)] for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(model.predict_proba, chunks))
    for got, chunk in zip(parallel, chunks, strict=True):
        np.testing.assert_array_equal(got, model.predict_proba(chunk))


# callbacks
# -------------------------------------------------------------------------------------------------


def test_progress_and_scores_by_scikit_learns_callbacks(clicks, capsys):
    callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    X, y, _ = clicks
    monitor = callback.ScoringMonitor(scoring="roc_auc")
    model = (
        quick(network="deepfm", search=AutoFIS(), max_epochs=3, search_epochs=2)
        .set_callbacks(monitor)
        .fit(X, y)
    )
    rows = [r for r in monitor.get_logs().data if r["task_name"] == "epoch"]
    scores = [r["roc_auc"] for r in rows if r.get("roc_auc") is not None]
    assert len(scores) == 3 and scores[-1] == pytest.approx(
        roc_auc_score(y, model.predict_proba(X)[:, 1]), abs=1e-9
    )
    plain = quick(network="deepfm", search=AutoFIS(), max_epochs=3, search_epochs=2).fit(X, y)
    # Looking changes nothing.
    np.testing.assert_array_equal(plain.predict_proba(X), model.predict_proba(X))
    assert capsys.readouterr().out == ""
    quick(search=AutoFIS()).set_callbacks(callback.ProgressBar()).fit(X, y)
    shown = capsys.readouterr().out
    assert "AutoFIS" in shown and "train" in shown


class Callback:
    """Hears everything and does nothing."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass


def test_a_callback_can_stop_training(clicks):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    X, y, _ = clicks

    class Stop(Callback):
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch" and context.task_id == 1

    assert quick(max_epochs=9).set_callbacks(Stop()).fit(X, y).n_iter_ == 2


def test_callbacks_are_told_of_the_tasks_that_run(clicks):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    X, y, _ = clicks
    planned, begun = [], []

    class Count(Callback):
        def on_fit_task_begin(self, estimator, context):
            if context.parent is None:
                planned.append(context.max_subtasks)
                begun.append(0)
            elif context.task_name != "epoch":
                begun[-1] += 1

    model = quick(search=AutoFIS(), warm_start=True, max_epochs=1).set_callbacks(Count())
    model.fit(X, y).set_params(max_epochs=2).fit(X, y)
    parts = {"wide": None, "target_statistics": False, "max_epochs": 1}
    quick(network="auto", **parts).set_callbacks(Count()).fit(X, y)  # four parts judge in turn
    assert planned == begun == [2, 1, 5]


def test_verbose_prints_a_line_an_epoch(clicks, capsys):
    X, y, _ = clicks
    quick(search=AutoFIS(), verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 4
        and lines[0].startswith("search-AutoFIS epoch 1/2  train_loss")
        and lines[-1].startswith("train epoch 2/2")
    )


# device
# --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trained_on_cuda_predicts_on_the_cpu(clicks):
    X, y, _ = clicks
    model = quick(device="cuda", search=AutoFIS()).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert next(again.net_.module_.parameters()).device.type == "cpu"
    np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-5)


def test_a_missing_device_is_named(clicks):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    X, y, _ = clicks
    with pytest.raises(ValueError, match="device='cuda', but torch sees no CUDA device"):
        quick(device="cuda").fit(X, y)


def test_an_estimator_of_ours_is_a_plain_base_estimator():
    assert isinstance(quick(), BaseEstimator) and "embedding_dim" in quick().get_params()


def test_tables_that_would_not_fit_are_refused_before_they_are_allocated():
    code = (
        "import numpy as np, pandas as pd, resource\n"
        "from sklearn_autorec import CTRClassifier\n"
        "X = pd.DataFrame({'user': np.arange(300_000).astype(str)}); y = np.arange(300_000) % 2\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, taken + 2**30))\n"
        "try:\n"
        "    CTRClassifier(network='fm', embedding_dim=512, max_epochs=1, device='cpu').fit(X, y)\n"
        "except ValueError as error:\n"
        "    print(error)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    ).stdout
    assert (
        "300,002 ids with embedding_dim=512 need about" in out
        and "Column 'user' has most ids" in out
        and "max_categories" in out
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_search_processes_start_afresh(clicks, method):
    """Nothing lives in module globals: a process that imports anew fits and predicts the
    same bits.
    """
    X, y, _ = clicks
    expected = _fit_and_predict((X, y))
    with multiprocessing.get_context(method).Pool(1) as pool:
        np.testing.assert_array_equal(pool.map(_fit_and_predict, [(X, y)])[0], expected)


def _fit_and_predict(data):
    torch.set_num_threads(1)
    X, y = data
    return quick(network="fm", search=AutoFIS(), max_epochs=1).fit(X, y).predict_proba(X)
