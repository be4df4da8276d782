"""AdaFS: formulas against numpy, a planted switch, what is kept for serving."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import ArchSchedule
from sklearn_autorec.feature_selection import AdaFS, AutoField, field_weights
from sklearn_autorec.feature_selection._gates._adafs import AdaptiveGates, SearchedAdaptiveGates
from sklearn_autorec.networks import MLPNetwork
from sklearn_autorec.nn import BuildContext
from sklearn_autorec.serving import load, save


def context(n_fields=4, d=3):
    names = tuple("abcdefgh"[:n_fields])
    return BuildContext(
        names, (3,) * n_fields, embedding_dim=d, generator=torch.Generator().manual_seed(0)
    )


def numpy_factors(module, e, training, n_kept):
    """Factors by numpy, batch statistics or running ones."""
    norm, (weight, bias) = module.norm, [p.detach().numpy() for p in module.controller.parameters()]
    mean, variance = (
        (e.mean((0, 1)), e.var((0, 1)))
        if training
        else (norm.running_mean.numpy(), norm.running_var.numpy())
    )
    normed = (e - mean) / np.sqrt(
        variance + norm.eps
    ) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    w = softmax(normed.reshape(len(e), -1) @ weight.T + bias, axis=1)
    if n_kept is None:
        return w * w.shape[1]
    kept = np.argsort(-w, 1)[:, :n_kept]
    out = np.zeros_like(w)
    for i, own in enumerate(kept):
        out[i, own] = w[i, own] / w[i, own].sum() * n_kept
    return out


@pytest.mark.parametrize("n_kept", [None, 1, 2, 4])
def test_factors_agree_with_numpy(n_kept):
    module = AdaptiveGates(context(), (), n_kept)
    with torch.no_grad():
        module.norm.weight.uniform_(0.5, 2)
        module.norm.bias.uniform_(-1, 1)
    e = torch.randn(9, 4, 3)
    for training in (True, False):
        module.train(training)
        expected = numpy_factors(module, e.numpy(), training, n_kept)
        factors = module(e, None).detach().numpy()
        np.testing.assert_allclose(factors, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(factors.sum(1), n_kept or 4, rtol=1e-5)
        if n_kept is not None:
            assert ((factors > 0).sum(1) == n_kept).all()


def test_warm_up_leaves_embeddings_and_collects_statistics():
    module = SearchedAdaptiveGates(
        context(), (), None, ArchSchedule("first_order", 2, 0.2, 0.5), 0.01
    )
    e = 5 + torch.randn(200, 4, 3)
    module.set_progress(0.2)
    for _ in range(50):
        assert module(e, None).tolist() == [[1, 1, 1, 1]]
    torch.testing.assert_close(module.norm.running_mean, e.mean((0, 1)), atol=0.1, rtol=0.02)
    module.set_progress(0.5)
    assert module(e, None).shape == (200, 4)
    assert {id(p) for p in module.arch_parameters()} == {id(p) for p in module.parameters()}


def planted_switch(seed, n=20_000, n_values=10):
    """Where field 0 is even the label depends on field 1, else on field 2; three more fields are
    noise.
    """
    rng = np.random.default_rng(seed)
    v = rng.integers(0, n_values, (n, 6))
    a, b = rng.normal(0, 1.2, (2, n_values))
    even = v[:, 0] % 2 == 0
    p = expit(np.where(even, a[v[:, 1]], b[v[:, 2]]))
    X = pd.DataFrame({f"f{j}": [f"v{i}" for i in column] for j, column in enumerate(v.T)})
    return X, (rng.random(n) < p).astype(int), p, even


def fit(method, X, y, seed, **options):
    options = {"network": MLPNetwork((32,)), "max_epochs": 2, "search_epochs": 8, **options}
    return CTRClassifier(
        search=method,
        embedding_dim=8,
        lr=2e-3,
        batch_size=256,
        early_stopping=False,
        device="cpu",
        random_state=seed,
        **options,
    ).fit(X, y)


@pytest.mark.parametrize("method", [AdaFS(), AdaFS("hard", n_kept=3)], ids=["soft", "hard"])
def test_weights_follow_the_switch_of_every_row(method):
    shares = []
    for seed in range(5):
        X, y, p, even = planted_switch(seed)
        model = fit(method, X[:14_000], y[:14_000], seed, search_epochs=12)
        test = slice(14_000, None)
        auc = roc_auc_score(y[test], model.predict_proba(X[test])[:, 1])
        assert auc >= roc_auc_score(y[test], p[test]) - 0.01
        w, even = field_weights(model, X[test]), even[test]
        w /= w.sum(axis=1).to_numpy()[:, None]
        assert (
            w.f1[even].mean() > 3 * w.f1[~even].mean()
            and w.f2[~even].mean() > 3 * w.f2[even].mean()
        )
        total = w[["f0", "f1", "f2"]].sum(axis=1)
        shares.append(
            min(total[even].mean(), total[~even].mean()) if method.mode == "soft" else total.mean()
        )
    # Half is what equal weights give. One seed of five lies at 0.57, hence the mean.
    assert min(shares) > 0.54 and np.mean(shares) >= 0.7


def test_the_same_fields_for_all_rows_are_not_enough():
    for seed in range(3):
        X, y, p, _ = planted_switch(seed)
        test, auc = slice(14_000, None), {}
        for method, epochs in ((AdaFS("hard", n_kept=2), 2), (AutoField(n_kept=2), 8)):
            model = fit(method, X[:14_000], y[:14_000], seed, max_epochs=epochs)
            auc[type(method)] = roc_auc_score(y[test], model.predict_proba(X[test])[:, 1])
        bayes = roc_auc_score(y[test], p[test])
        assert auc[AdaFS] >= bayes - 0.01 and auc[AutoField] <= bayes - 0.04


def test_shuffled_labels_have_no_switch():
    X, y, _, even = planted_switch(0, 6000)
    w = field_weights(fit(AdaFS(), X, np.random.default_rng(0).permutation(y), 0), X)
    assert not (
        w.f1[even].mean() > 3 * w.f1[~even].mean() and w.f2[~even].mean() > 3 * w.f2[even].mean()
    )


def test_hard_gates_close_fields_of_a_row():
    X, y, _, _ = planted_switch(0, 2000)
    model = fit(AdaFS("hard", n_kept=2), X, y, 0)
    w = field_weights(model, X).to_numpy()
    assert ((w > 0).sum(1) == 2).all()
    row = int(np.argmin(w[:, 3]))
    changed = X.iloc[[row]].copy()
    assert w[row, 3] == 0
    # What a closed field holds still reaches the controller, so that only rows whose weights stay
    # are the same.
    for value in sorted(set(X.f3)):
        changed["f3"] = value
        new = field_weights(model, changed).to_numpy()[0]
        if np.array_equal(new, w[row]):
            np.testing.assert_allclose(
                model.predict_proba(changed), model.predict_proba(X.iloc[[row]]), atol=1e-6
            )


@pytest.mark.parametrize("retrain", ["keep", "scratch", "rewind"])
def test_controller_is_served(retrain, tmp_path):
    X, y, _ = make_ctr(600, n_fields=3, pairs=1, n_numeric=1, n_sequences=1, random_state=0)
    model = fit(
        AdaFS("hard", n_kept=0.5, hidden_units=(4,), retrain=retrain),
        X,
        y,
        0,
        network="deepfm",
        search_epochs=1,
    )
    # Of 5.
    assert (
        isinstance(model.net_.module_.gate, AdaptiveGates) and model.net_.module_.gate.n_kept == 2
    )
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    pd.testing.assert_frame_equal(field_weights(again, X), field_weights(model, X))
    # One row as in a table, and a table of one row.
    np.testing.assert_allclose(field_weights(model, X[:1]), field_weights(model, X)[:1], rtol=1e-5)
    assert field_weights(model, X[5:9]).index.tolist() == [5, 6, 7, 8]


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_field_weights_of_other_models():
    X, y, _ = make_ctr(400, n_fields=3, pairs=[], n_numeric=1, random_state=0)
    plain = RatingRegressor(network="fm", max_epochs=1, random_state=0).fit(X, y)
    assert field_weights(plain, X).eq(1).all(axis=None) and field_weights(
        plain, X
    ).columns.tolist() == [*X.columns]
    two = CTRClassifier(network="fm", search=AutoField(n_kept=2), max_epochs=1, random_state=0).fit(
        X, y
    )
    assert field_weights(two, X).columns.tolist() == two.selected_fields_
    single = CTRClassifier(network="fm", max_epochs=1).fit(X, np.ones(len(X)))
    with pytest.raises(ValueError, match="no network"):
        field_weights(single, X)


def test_a_controller_that_weighed_nothing_in_the_best_epoch_is_left_out():
    context = BuildContext(("a", "b", "c"), (5,) * 3, generator=torch.Generator().manual_seed(0))
    method = AdaFS(warmup=0.2)
    module = method.build(context)
    module.set_progress(0.1)
    found = method.derive(module, context)
    assert found["controller"] is False and method.realise(found, context) is None
    module.set_progress(0.5)
    found = method.derive(module, context)
    assert found["controller"] is True
    assert isinstance(method.realise(found, context), AdaptiveGates)
    assert AdaFS(warmup=0.0).derive(AdaFS(warmup=0.0).build(context), context)["controller"]
    with pytest.raises(ValueError, match="controller must be true or false, got 1"):
        method.check({"scores": [1.0] * 3, "controller": 1}, context)


def test_wrong_parameters_are_named():
    X, y, _ = make_ctr(100, n_fields=3, pairs=[], random_state=0)
    for options, message in (
        ({"mode": "hard", "n_kept": 4}, "n_kept=4 is more than the 3 fields"),
        ({"n_kept": 1}, "n_kept"),
        ({"mode": "firm"}, "mode"),
        ({"hidden_units": (0,)}, "hidden_units must hold ints of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            CTRClassifier(network="fm", search=AdaFS(**options), max_epochs=1).fit(X, y)
