"""make_tastes: what is planted is in the tables, and in the labels."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sklearn_autorec.datasets import make_tastes


def test_groups_have_their_rank_and_the_same_variance():
    X, y, truth = make_tastes(
        20_000, topics=(6, 1, 3), n_values=40, n_noise_fields=2, effect=1.2, random_state=0
    )
    assert X.columns.tolist() == [
        "who0",
        "what0",
        "who1",
        "what1",
        "who2",
        "what2",
        "noise0",
        "noise1",
    ]
    assert truth.pairs == ((0, 1), (2, 3), (4, 5)) and truth.noise_fields == (6, 7)
    assert truth.ranks == {0: 6, 1: 6, 2: 1, 3: 1, 4: 3, 5: 3, 6: 0, 7: 0}
    for table, rank in zip(truth.tables, (6, 1, 3), strict=True):
        assert np.linalg.matrix_rank(table) == rank
        assert table.std() == pytest.approx(1.2)
        # Neither column says anything alone.
        np.testing.assert_allclose(table.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(table.mean(1), 0, atol=1e-12)
    codes = X.map(lambda v: int(v[1:])).to_numpy()
    latent = sum(
        t[codes[:, i], codes[:, j]] for t, (i, j) in zip(truth.tables, truth.pairs, strict=True)
    )
    p = truth.probabilities
    np.testing.assert_allclose(
        np.log(p / (1 - p)) - latent, (np.log(p / (1 - p)) - latent)[0], atol=1e-9
    )
    assert p.mean() == pytest.approx(0.3, abs=1e-6) and y.mean() == pytest.approx(0.3, abs=0.02)
    assert truth.bayes_auc == roc_auc_score(y, p) > 0.8


def test_popular_things_are_clicked_more_often():
    X, y, truth = make_tastes(
        20_000, topics=(2,), effect=0.5, popularity=2.0, popular_share=0.2, random_state=1
    )
    popular = X["what0"].isin([f"v{i}" for i in truth.popular[0]])
    assert len(truth.popular[0]) == 12 and y[popular].mean() > 1.8 * y[~popular].mean()
    who = X["who0"].isin([f"v{i}" for i in truth.popular[0]])
    assert y[who].mean() == pytest.approx(y[~who].mean(), abs=0.03)


def test_seeds_and_odd_numbers_of_values():
    one, two, other = (make_tastes(300, n_values=7, random_state=s) for s in (0, 0, 1))
    assert one[0].equals(two[0]) and (one[1] == two[1]).all() and not one[0].equals(other[0])
    for table in one[2].tables:
        np.testing.assert_allclose(table.sum(0), 0, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topics": (0,)},
        {"n_values": 1},
        {"effect": -1.0},
        {"base_rate": 1.0},
        {"popular_share": 0},
        {"n_rows": 0},
    ],
)
def test_wrong_parameters_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_tastes(**{"n_rows": 10, **wrong})
