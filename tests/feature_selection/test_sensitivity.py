import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier
from small_networks import told

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import known_networks
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.feature_selection import RandomSubset, SensitivitySelector
from sklearn_autorec.feature_selection._subsets._sensitivity import network_sensitivity
from sklearn_autorec.interaction import AutoFIS

OPTIONS = {"embedding_dim": 4, "lr": 0.02, "max_epochs": 3, "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def mixed():
    """Columns of all kinds, of which f1 matters and f0, f2 and f3 do not."""
    return make_ctr(
        1500,
        n_fields=4,
        cardinality=6,
        informative_fields=[1],
        pairs=0,
        n_numeric=2,
        n_sequences=1,
        random_state=0,
    )


def test_sensitivities_of_a_factorization_machine_are_those_of_numpy():
    X, y, _ = make_ctr(300, n_fields=4, cardinality=5, random_state=0)
    model = CTRClassifier(network="fm", **OPTIONS).fit(X, y)
    table = model.encoder_.encode(X)
    module = model.net_.module_
    rows = table.ids + module.embedding.offsets.numpy()
    # (n, F, d), (n, F, 1)
    e, w = (t.weight.detach().numpy()[rows] for t in (module.embedding, module.linear))
    slope = (model.predict_proba(X)[:, 1] - y)[:, None, None]  # of the log loss by the logit
    others = e.sum(1, keepdims=True) - e
    shark = (slope * (others * (e.mean(0) - e)).sum(2, keepdims=True) + slope * (w.mean(0) - w))[
        ..., 0
    ]
    single = (slope * (others * e).sum(2, keepdims=True) + slope * w)[..., 0]
    np.testing.assert_allclose(
        network_sensitivity(model, X, y, "shark", 64), np.abs(shark).mean(0), rtol=1e-4
    )
    batches = [np.abs(single[k : k + 64].mean(0)) for k in range(0, 300, 64)]
    np.testing.assert_allclose(
        network_sensitivity(model, X, y, "sfs", 64), np.mean(batches, 0), rtol=1e-4
    )


class Mask(torch.nn.Module):
    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def forward(self, e, inputs):
        return self.factors


def by_differences(model, X, y, step=1e-6):
    """Change of the mean loss as a field is scaled, in double precision, in the order of the
    columns.
    """
    module = copy.deepcopy(model.net_.module_).double().eval()
    table = model.encoder_.encode(X)
    inputs = [
        torch.from_numpy(a) for a in (table.ids, table.numeric.astype(float), table.sequences)
    ]
    found = []
    for f in range(7):
        losses = []
        for sign in (1, -1):
            module.gate = Mask(
                1 + sign * step * torch.nn.functional.one_hot(torch.tensor(f), 7).double()[None]
            )
            logits = module(*inputs)[:, 0]
            losses.append(
                torch.nn.functional.binary_cross_entropy_with_logits(
                    logits, torch.from_numpy(y).double()
                )
            )
        found.append(abs((losses[0] - losses[1]).item()) / (2 * step))
    return found  # categorical, numeric, sequence columns come in this order in the table as well


@pytest.mark.parametrize("network", sorted(known_networks()))
def test_all_networks_and_kinds_of_columns(network, mixed):
    X, y, _ = mixed
    chosen = told(network, {"s0": "f1"})
    model = CTRClassifier(network=chosen, **OPTIONS).fit(X, y)
    before = model.predict_proba(X)
    state = {k: v.clone() for k, v in model.net_.module_.state_dict().items()}
    for method in ("shark", "sfs"):
        found = network_sensitivity(model, X, y, method, 256)
        assert found.shape == (7,) and (found > 0).all()
        if method == "shark":
            # Vectors of all pairs have more to say of noise after so short a training, and layer
            # norm makes the vectors of useless fields as long as all others.
            margin = {"ffm": 1.2, "opnn": 1.2, "masknet": 1.0}.get(network, 1.5)
            assert found[1] > margin * found[[0, 2, 3]].max()
    if network != "lr":  # which has no place for a mask
        few = X[:400], y[:400]
        np.testing.assert_allclose(
            network_sensitivity(model, *few, "sfs", 2000),
            by_differences(model, *few),
            rtol=0.02,
            atol=2e-5,
        )
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert all(torch.equal(v, state[k]) for k, v in model.net_.module_.state_dict().items())


@pytest.mark.parametrize(
    "search", [PEP(0.5), AutoDim(), AutoFIS(orders=(2, 3))], ids=["PEP", "AutoDim", "AutoFIS"]
)
def test_searched_networks(search, mixed):
    X, y, _ = mixed
    model = CTRClassifier(network="fm", search=search, **OPTIONS).fit(X, y)
    for method in ("shark", "sfs"):
        found = network_sensitivity(model, X, y, method, 256)
        assert np.isfinite(found).all() and set(np.argsort(-found)[:4]) & {1, 4, 5}


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_ratings_classes_and_a_single_class(mixed):
    X, y, _ = mixed
    found = SensitivitySelector(
        RatingRegressor(network="fm", **OPTIONS), n_features_to_select=3, cv=2
    ).fit(X, y * 4.0)
    assert {"f1"} <= set(found.get_feature_names_out())
    three = make_ctr(
        900,
        n_fields=4,
        cardinality=5,
        informative_fields=[2],
        pairs=0,
        task="multiclass",
        random_state=0,
    )
    found = SensitivitySelector(
        CTRClassifier(network="fm", **OPTIONS), n_features_to_select=1, cv=2
    )
    assert found.fit(*three[:2]).get_feature_names_out().tolist() == ["f2"]
    constant = FrozenEstimator(CTRClassifier(**OPTIONS).fit(X, np.zeros(len(y))))
    assert (
        SensitivitySelector(constant, n_features_to_select=2).fit(X, y).scores_.tolist() == [0] * 7
    )


def test_planted_fields_come_first():
    """Main fields and the pair before all noise on each of five seeds, by all methods; not with
    shuffled labels.
    """
    shuffled = []
    for seed in range(5):
        X, y, truth = make_ctr(
            3000,
            n_fields=10,
            cardinality=6,
            zipf=0,
            informative_fields=[0, 1],
            pairs=[(2, 3)],
            main_effect=1.0,
            pair_effect=1.5,
            random_state=seed,
        )
        options = {
            "network": "fm",
            **OPTIONS,
            "max_epochs": 8,
            "lr": 0.03,
            "embedding_l2": 1e-3,
            "random_state": seed,
        }
        model = FrozenEstimator(CTRClassifier(**options).fit(X, y))
        for method in ("shark", "sfs", "permutation"):
            found = SensitivitySelector(
                model,
                method=method,
                n_features_to_select=4,
                scoring="roc_auc",
                n_repeats=2,
                random_state=0,
            ).fit(X, y)
            kept = set(found.get_support(indices=True))
            assert kept == {0, 1, 2, 3} if method != "sfs" else {0, 1} <= kept, method
        labels = np.random.default_rng(seed).permutation(y)
        noise = CTRClassifier(**options).fit(X[:1500], labels[:1500])
        found = network_sensitivity(noise, X[1500:], labels[1500:], "shark", 256)
        shuffled.append(len(set(np.argsort(-found)[:4]) & {0, 1, 2, 3}))
    assert np.mean(shuffled) < 3


def table(n=200, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (n, d)).astype(float)
    return X, ((X[:, 1] + X[:, 2] + rng.integers(0, 2, n)) > 2).astype(int)


def test_permutation_importances_are_scikit_learns():
    X, y = table()
    cv = StratifiedKFold(2)
    found = SensitivitySelector(
        DecisionTreeClassifier(random_state=0),
        method="permutation",
        cv=cv,
        n_repeats=3,
        random_state=5,
    ).fit(X, y)
    rng, expected = np.random.RandomState(5), []
    for train, test in cv.split(X, y):
        model = DecisionTreeClassifier(random_state=0).fit(X[train], y[train])
        seed = rng.randint(2**31 - 1)
        expected.append(
            permutation_importance(
                model, X[test], y[test], n_repeats=3, random_state=seed
            ).importances_mean
        )
    np.testing.assert_allclose(found.scores_, np.mean(expected, 0))
    order = np.argsort(-found.scores_, kind="stable")
    sizes = [len(r["subset"]) for r in found.search_history_]
    assert sizes == [6, 5, 4, 3, 2, 1]  # prefixes of the ranking
    assert all(set(r["subset"]) == set(order[: len(r["subset"])]) for r in found.search_history_)
    few = SensitivitySelector(
        DecisionTreeClassifier(), method="permutation", max_evaluations=3, random_state=0
    ).fit(X, y)
    assert [len(r["subset"]) for r in few.search_history_] == [6, 4, 1]


@pytest.mark.parametrize("k", [1, 3, 6])
def test_forward_selection_is_scikit_learns(k):
    X, y = table()
    cv = KFold(3)
    found = SensitivitySelector(
        LogisticRegression(), method="forward", n_features_to_select=k, cv=cv
    ).fit(X, y)
    if k < 6:
        expected = SequentialFeatureSelector(
            LogisticRegression(), n_features_to_select=k, cv=cv
        ).fit(X, y)
        np.testing.assert_array_equal(found.support_, expected.support_)
    assert found.n_evaluations_ == sum(6 - i for i in range(k))
    assert found.scores_[found.support_].max() == found.scores_.max()


def test_a_frozen_model_is_not_fitted_again(mixed):
    X, y, _ = mixed
    model = CTRClassifier(network="fm", **OPTIONS).fit(X, y)
    found = SensitivitySelector(FrozenEstimator(model), n_features_to_select=3).fit(X, y)
    np.testing.assert_allclose(found.scores_, network_sensitivity(model, X, y, "shark", 256))
    assert found.n_evaluations_ == 0 and np.isnan(found.best_score_)
    auto = SensitivitySelector(
        FrozenEstimator(model), max_evaluations=2, cv=2, scoring="roc_auc"
    ).fit(X, y)
    scores = [r["score"] for r in auto.search_history_]  # of models of their own
    assert len(scores) == 2 and auto.best_score_ == max(scores) and scores[0] != scores[1]
    np.testing.assert_allclose(auto.scores_, found.scores_)


@pytest.mark.parametrize("method", ["shark", "sfs"])
@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_networks_and_bad_columns(method):
    """Nothing constant, missing or repeated is kept; new ids, a single class and few rows are no
    trouble.
    """
    X, y, _ = make_ctr(
        400, n_fields=4, cardinality=5, informative_fields=[1], pairs=0, random_state=0
    )
    X.loc[::3, "f1"] = None
    X = X.assign(constant="a", missing=None, number=np.nan, again=X["f1"])
    select = SensitivitySelector(
        CTRClassifier(network="fm", **OPTIONS), method=method, n_features_to_select=4, cv=2
    )
    found = select.fit(X, y)
    assert found.get_feature_names_out().tolist() == ["f0", "f1", "f2", "f3"]
    new = X.assign(f1="never seen")
    assert found.transform(new)["f1"].eq("never seen").all()
    one = clone(select).set_params(n_features_to_select="auto").fit(X, np.zeros(400, int))
    assert (one.scores_ == 0).all() and one.support_.any() and one.best_score_ == 1
    few = clone(select).set_params(n_features_to_select=2).fit(X[:6], [0, 1] * 3)
    assert few.support_.sum() == 2 and np.isfinite(few.scores_).all()


def test_random_subsets_without_an_estimator():
    X, y = table()
    found = RandomSubset(n_features_to_select=2, random_state=0).fit(X)
    assert found.support_.sum() == 2 and found.n_evaluations_ == 0 and np.isnan(found.best_score_)
    sizes = {RandomSubset(random_state=s).fit(X).support_.sum() for s in range(40)}
    assert sizes == set(range(1, 7))
    counts = sum(
        RandomSubset(n_features_to_select=2, random_state=s).fit(X).support_ for s in range(300)
    )
    assert counts.min() > 70
    tree = DecisionTreeClassifier(random_state=0)
    drawn = RandomSubset(tree, max_evaluations=50, cv=2, random_state=0).fit(X, y)
    assert len({r["subset"] for r in drawn.search_history_}) == drawn.n_evaluations_ <= 50
    sized = RandomSubset(tree, n_features_to_select=2, max_evaluations=8, cv=2, random_state=0).fit(
        X, y
    )
    assert {len(r["subset"]) for r in sized.search_history_[1:]} == {
        2
    } and sized.support_.sum() == 2
    # What says nothing new is in no subset; a column that helps has the largest score.
    X = np.column_stack([X, X[:, 0], np.zeros(len(X), X.dtype)])
    random = RandomSubset(tree, max_evaluations=40, cv=2, random_state=0).fit(X, X[:, 2] > 1)
    assert max(f for r in random.search_history_[1:] for f in r["subset"]) < 6
    assert random.scores_.argmax() == 2 and random.scores_[2] > 0.1
    sized = clone(random).set_params(n_features_to_select=2).fit(X, X[:, 2] > 1)
    assert {len(r["subset"]) for r in sized.search_history_[1:]} == {2}
