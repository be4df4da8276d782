"""Parts of the crossed linear model by themselves: terms, bins, the screen of candidates, the
choice among several targets.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit

from sklearn_autorec.feature_crossing._autocross._fieldwise import AdditiveModel, penalty
from sklearn_autorec.feature_crossing._autocross._preparing import split_rows
from sklearn_autorec.linear_model._core import CrossedLinear, CrossedLinearOptions
from sklearn_autorec.linear_model._search import ScreenedSearch
from sklearn_autorec.linear_model._terms import CategoricalTerm, CrossTerm
from sklearn_autorec.preprocessing import FieldEncoder


def ids_table(ids):
    nothing = np.zeros((len(ids), 0))
    return SimpleNamespace(ids=np.asarray(ids), numeric=nothing, sequences=nothing.astype(int))


@pytest.mark.parametrize("size", [10, 3000])  # looked up in an array, and by bisection
def test_combinations_of_too_few_rows_and_unseen_ones_share_the_first_id(size):
    parts = CategoricalTerm(0, size), CategoricalTerm(1, size)
    ids = [[2, 3]] * 3 + [[3, 2]] * 2 + [[4, 4]]
    term = CrossTerm.learned(parts, (0, 1), ids_table(ids), None, 2)
    new = ids_table([[2, 3], [3, 2], [4, 4], [3, 3], [9, 9], [0, 0]])
    assert term.ids(new).tolist() == [1, 2, 0, 0, 0, 0]
    assert [term.id_of_row(row.tolist(), [], []) for row in new.ids] == [1, 2, 0, 0, 0, 0]


def test_a_number_is_cut_as_finely_as_held_out_rows_say():
    rng = np.random.RandomState(0)
    x = rng.random_sample(6000)
    chosen = {}
    for name, p in (
        ("teeth", np.where(np.floor(x * 40) % 2 > 0, 0.9, 0.1)),
        ("step", np.where(x > 0.6, 0.55, 0.45)),
    ):
        encoder = FieldEncoder()
        table = encoder.fit_encode(x[:, None])
        y = (rng.random_sample(6000) < p).astype(float)
        model = CrossedLinear(CrossedLinearOptions(n_bins=(5, 20, 100)))
        model.logistic = True
        model._learn_fields(table, encoder, None)
        chosen[name] = len(model._best_edges(0, table, y, None, 4800))
    assert chosen == {"teeth": 99, "step": 4}


def test_of_several_targets_the_crosses_that_gain_most_in_all_are_kept():
    encoder = FieldEncoder(categorical_features=[0, 1, 2])
    table = encoder.fit_encode(np.random.RandomState(0).randint(0, 3, (100, 3)))
    model = CrossedLinear(CrossedLinearOptions(max_crosses=2))
    model.n_outputs = 3
    model._learn_fields(table, encoder, None)
    found = [([(0, 1)], [0.1], []), ([(0, 2), (1, 2)], [0.3, 0.01], []), ([(0, 1)], [0.25], [])]
    model._learn_crosses(found, table, None)
    assert model.crosses == [(0, 1), (0, 2)]
    assert_allclose(model.gains, [0.35, 0.3])


def test_the_screen_judges_each_fold_by_the_rows_of_the_others():
    """The screen's gain against a loop: offsets of models that have not seen a fold, and steps
    learned without it.
    """
    rng = np.random.RandomState(0)
    columns = {i: rng.randint(0, 4, 400) for i in range(3)}
    y = (
        rng.random_sample(400) < expit(np.where(columns[0] == columns[1], 1.0, -0.5) + columns[2])
    ).astype(float)
    rows, folds = split_rows(y, True, 5, 0.2, 0)
    y, columns = y[rows], {i: column[rows] for i, column in columns.items()}
    options = SimpleNamespace(
        max_crosses=1, max_order=2, l2="auto", min_gain="auto", beam_width=1, scoring="log_loss"
    )
    fields = [(columns[i], 4) for i in range(3)]
    search = ScreenedSearch(fields, columns, dict.fromkeys(columns, 4), y, folds, options, True)
    screened = {}
    real = search._screened
    search._screened = lambda cross, *given: screened.setdefault(
        cross, (real(cross, *given), given)
    )[0]
    search.run()
    assert sorted(screened) == [(0, 1), (0, 2), (1, 2)]

    part, eta = np.full(len(y), -1), np.zeros(len(y))
    for k, fold in enumerate(folds):
        out = np.arange(fold.start, fold.stop)
        order = np.concatenate([np.setdiff1d(np.arange(len(y)), out), out])
        model = AdditiveModel(y[order], len(y) - len(out), True)
        for column, size in fields:
            model = model.extended(column[order], size)
        part[out], eta[out] = k, model.fit().eta[len(y) - len(out) :]
    p = expit(eta)
    for (a, b), (gain, (of_row, g, h)) in screened.items():
        assert_array_equal(of_row, part)
        assert_allclose(g, y - p, atol=1e-6)
        cell = columns[a] * 4 + columns[b]
        sums = np.bincount(cell, g, 16), np.bincount(cell, h, 16)
        l2, expected = penalty(*sums, "auto"), 0.0
        for k in range(len(folds)):
            for c in range(16):
                own, others = (cell == c) & (part == k), (cell == c) & (part != k)
                w = np.clip(g[others].sum() / (h[others].sum() + l2), -2, 2)
                expected += g[own].sum() * w - h[own].sum() * w**2 / 2
        assert gain is None if l2 == np.inf else gain == pytest.approx(expected, rel=1e-6)
    assert max(screened, key=lambda cross: screened[cross][0] or 0.0) == (0, 1)
