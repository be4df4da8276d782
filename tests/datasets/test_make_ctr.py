import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec.datasets import CTRProblem, make_ctr


def linear(X, y):
    half = len(X) // 2
    model = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=0.3, max_iter=300)
    ).fit(X[:half], y[:half])
    return roc_auc_score(y[half:], model.predict_proba(X[half:])[:, 1])


@pytest.mark.parametrize("base_rate", [0.02, 0.3, 0.7])
def test_base_rate_and_bayes_figures(base_rate):
    X, y, truth = make_ctr(
        30_000, base_rate=base_rate, informative_fields=2, label_noise=0.1, random_state=0
    )
    assert y.mean() == pytest.approx(base_rate, abs=0.015)
    assert truth.bayes_log_loss == pytest.approx(log_loss(y, truth.probabilities))
    assert truth.bayes_auc == pytest.approx(roc_auc_score(y, truth.probabilities))
    assert truth.bayes_log_loss < log_loss(y, np.full(len(y), y.mean()))


@pytest.mark.parametrize("zipf", [0.0, 1.2])
def test_values_follow_zipfs_law(zipf):
    X, _, truth = make_ctr(50_000, n_fields=1, cardinality=30, pairs=0, zipf=zipf, random_state=0)
    share = X["f0"].value_counts(normalize=True).reindex(truth.value_names[0]).to_numpy()
    expected = 1 / np.arange(1, 31) ** zipf
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.01)


def test_pair_tables_have_their_rank_size_and_no_margins():
    problem = CTRProblem(
        n_fields=4,
        cardinality=[15, 9, 12, 7],
        rank=[5, 2, 4, 4],
        pairs=[(0, 1), (2, 3)],
        pair_effect=1.7,
        random_state=0,
    )
    _, pairs, _ = problem._effects[0]
    for (i, j), (u, v) in pairs.items():
        table, p, q = u @ v.T, problem.shares[i], problem.shares[j]
        assert np.linalg.matrix_rank(table) == min(problem.ranks[i], problem.ranks[j])
        np.testing.assert_allclose(p @ table, 0, atol=1e-10)
        np.testing.assert_allclose(table @ q, 0, atol=1e-10)
        assert np.sqrt(p @ table**2 @ q) == pytest.approx(1.7)


def test_pairs_are_nearly_invisible_to_main_effects_and_visible_to_their_cross():
    X, y, truth = make_ctr(
        20_000, n_fields=4, cardinality=10, pairs=[(1, 3)], pair_effect=2.0, random_state=0
    )
    # Centred logits leave a trace in the probabilities: the logistic curve is not straight.
    assert linear(X, y) < 0.63 < truth.bayes_auc - 0.2
    weak, z, _ = make_ctr(
        20_000,
        n_fields=4,
        cardinality=10,
        zipf=0.0,
        pairs=[(1, 3)],
        pair_effect=0.5,
        random_state=0,
    )
    assert linear(weak, z) == pytest.approx(0.5, abs=0.04)
    crossed = pd.DataFrame({"cross": X["f1"] + "&" + X["f3"]})
    assert linear(crossed, y) > truth.bayes_auc - 0.03 > 0.7


def test_noise_fields_tell_nothing_and_informative_ones_do():
    X, y, truth = make_ctr(
        20_000,
        n_fields=6,
        pairs=0,
        informative_fields=(0, 2),
        informative_values={2: [0, 1]},
        random_state=0,
    )
    assert truth.noise_fields == (1, 3, 4, 5)
    p = {f: chi2_contingency(pd.crosstab(X[f"f{f}"], y)).pvalue for f in range(6)}
    assert max(p[0], p[2]) < 1e-10 and min(p[f] for f in truth.noise_fields) > 1e-3
    table = truth.main_tables[2]
    assert (table[2:] == 0).all() and (table[:2] != 0).all()


def test_duplicated_fields_are_relabelled_copies():
    X, _, truth = make_ctr(
        5000, n_fields=5, cardinality=12, pairs=1, duplicated_fields={4: 1}, random_state=0
    )
    assert truth.duplicated_fields == {4: 1}
    both = X[["f1", "f4"]].drop_duplicates()
    assert both["f1"].is_unique and both["f4"].is_unique and (both["f1"] != both["f4"]).any()


def test_numeric_columns_have_plateaus():
    X, y, truth = make_ctr(
        200_000, n_fields=1, pairs=0, n_numeric=1, main_effect=2.0, random_state=0
    )
    edges, levels = truth.numeric_steps[0]
    step = np.searchsorted(edges, X["x0"].to_numpy())
    within = [truth.probabilities[step == s].std() for s in range(4)]
    assert max(within) < 1e-12 and len(np.unique(truth.probabilities.round(12))) == 4
    means = np.array([y[step == s].mean() for s in range(4)])
    assert (np.argsort(means) == np.argsort(levels)).all()


def test_sequences_matter():
    X, y, truth = make_ctr(20_000, n_fields=1, pairs=0, n_sequences=1, random_state=0)
    assert truth.bayes_auc > 0.65
    counts = X["s0"].map(len)
    assert counts.mean() == pytest.approx(3, abs=0.1) and counts.min() == 0


def test_drift_turns_the_effects():
    X, y, truth = make_ctr(
        40_000, n_fields=2, pairs=0, informative_fields=(0,), drift=1.0, random_state=0
    )
    early, late = slice(0, 4000), slice(36_000, None)
    rates = [
        pd.Series(truth.probabilities[s]).groupby(X["f0"][s].to_numpy()).mean()
        for s in (early, late)
    ]
    still = make_ctr(40_000, n_fields=2, pairs=0, informative_fields=(0,), random_state=0)[
        2
    ].probabilities
    fixed = [pd.Series(still[s]).groupby(X["f0"][s].to_numpy()).mean() for s in (early, late)]
    assert np.corrcoef(*[r.reindex(rates[0].index) for r in rates])[0, 1] < 0.7
    np.testing.assert_allclose(fixed[0], fixed[1])


@pytest.mark.parametrize("ids, dtype", [("str", "str"), ("int", "int64"), ("category", "category")])
def test_types_of_ids_and_missing_cells(ids, dtype):
    X, _, _ = make_ctr(5000, n_fields=2, pairs=0, ids=ids, random_state=0)
    assert (X.dtypes.astype(str) == dtype).all()
    X, _, _ = make_ctr(5000, n_fields=2, pairs=0, ids=ids, missing_rate=0.2, random_state=0)
    np.testing.assert_allclose(X.isna().mean(), 0.2, atol=0.03)


def test_classes_and_ratings():
    X, y, truth = make_ctr(20_000, task="multiclass", n_classes=4, random_state=0)
    np.testing.assert_allclose(np.bincount(y) / len(y), 0.25, atol=0.03)
    np.testing.assert_allclose(truth.probabilities.sum(1), 1)
    assert truth.bayes_log_loss == pytest.approx(log_loss(y, truth.probabilities))
    X, y, truth = make_ctr(20_000, task="rating", random_state=0)
    assert 1 - truth.bayes_log_loss / y.var() == pytest.approx(0.5, abs=0.06)


def test_samples_of_a_problem_share_its_truth():
    problem = CTRProblem(n_fields=3, cardinality=8, pairs=[(0, 1)], random_state=0)
    (X, _, a), (Z, _, b) = problem.sample(5000, 1), problem.sample(5000, 2)
    assert not X.equals(Z)
    rate = [
        pd.Series(t.probabilities).groupby([D["f0"], D["f1"]]).first() for D, t in ((X, a), (Z, b))
    ]
    both = rate[0].index.intersection(rate[1].index)
    np.testing.assert_allclose(rate[0][both], rate[1][both])


def test_one_seed_gives_the_same_data_and_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (what must not change)
    a, b, c = (make_ctr(200, random_state=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(a[0], b[0])
    assert (a[1] == b[1]).all() and not a[0].equals(c[0])
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_fields": 0}, "n_fields must be an int of at least 1, got 0"),
        ({"base_rate": 1.0}, r"base_rate must be in \(0, 1\), got 1.0"),
        ({"label_noise": 2}, r"label_noise must be a number in \[0, 1\], got 2"),
        ({"pairs": 100}, "pairs must be at most the 45"),
        ({"pairs": [(0, 0)]}, "pairs must hold 2 different fields below 10 each"),
        ({"cardinality": [3, 4]}, "cardinality must be an int of at least 1, or 10 of them"),
        ({"task": "click"}, "task must be one of .* got 'click'"),
        ({"duplicated_fields": {1: 1}}, "duplicated_fields must map new fields"),
        ({"informative_fields": (11,)}, "informative_fields must be fields below 10"),
        (
            {"informative_values": 3.0, "informative_fields": 1},
            "informative_values must be a share",
        ),
        ({"n_rows": 0}, "n_rows must be an int of at least 1"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_ctr(**{"n_rows": 10, **options})
