"""AutoDim: planted ranks decide widths, in every network."""

import dataclasses
import functools
import pickle

import numpy as np
import pandas as pd
import pytest
from autodim_cases import context, searched, widths
from sklearn.base import clone
from small_networks import told_small
from small_tables import mixed_clicks, odd_rows

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import networks_with_slot
from sklearn_autorec.datasets import make_tastes
from sklearn_autorec.embedding import PEP, AutoDim, EqualSize, MagnitudePruning, RandomSizes
from sklearn_autorec.nn import FieldEmbedding

METHODS = {
    "autodim": AutoDim(),
    "pep": PEP(0.5),
    "equal": EqualSize(0.5),
    "random": RandomSizes(),
    "magnitude": MagnitudePruning(0.5),
}


def finds_the_truth(found):
    return min(found[:2]) >= 4 and max(found[2:4]) <= 2 and found[4] == 1


# Planted truth
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_planted_ranks_decide_widths(seed):
    found, _ = widths(seed, nested=True)
    assert finds_the_truth(found), found


def test_planted_ranks_decide_widths_after_an_even_warm_up():
    found = [widths(seed)[0] for seed in range(5)]
    assert sum(finds_the_truth(f) for f in found) >= 4, found


@functools.cache
def widths_of_tastes(seed, nested=False):
    """Widths on tables of another make, where two fields of rank 1 carry as much variance as two of
    rank 6.
    """
    X, y, _ = make_tastes(40_000, topics=(6, 1), random_state=seed)
    model = searched(AutoDim(nested_warmup=nested), X, y, seed)
    return [model.embedding_sizes_[name] for name in X]


@pytest.mark.parametrize("seed", range(5))
def test_widths_of_another_make_of_data(seed):
    found = widths_of_tastes(seed, nested=True)
    assert finds_the_truth(found), found
    if seed < 2:  # The even warm-up does not order the widths dependably here, but finds the noise.
        even = widths_of_tastes(seed)
        assert even[4] == 1 < min(even[:4]), even


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_decide_nothing(seed):
    found, _ = widths(seed, shuffled=True, nested=True)
    assert min(found[:2]) <= max(found[2:4]), found


def test_one_level_search_uses_at_least_as_many_parameters():
    # The ablation of the paper, on the task loss alone.
    seeds = range(3)
    bilevel = [widths(seed)[1] for seed in seeds]
    one_level = [widths(seed, level="one_level")[1] for seed in seeds]
    assert np.mean(one_level) >= np.mean(bilevel)
    assert one_level != bilevel


@pytest.fixture(scope="module")
def small():
    X, y = mixed_clicks(300, n_fields=3, cardinality=5, zipf=0, pairs=1, missing_rate=0.05)
    X["constant"] = "same"
    return X, y


# Every network
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("network", networks_with_slot("embedding"))
def test_every_network_takes_every_method(network, name, small):
    X, y = small
    model = CTRClassifier(
        network=told_small(network, {"s0": "f0"}),
        search=METHODS[name],
        embedding_dim=4,
        max_epochs=1,
        batch_size=128,
        random_state=0,
    )
    model = clone(model).fit(X, y)
    again = clone(model).fit(X, y)
    new = odd_rows(X)
    p = model.predict_proba(new)
    assert p.shape == (5, 2) and np.isfinite(p).all()
    assert np.array_equal(p, again.predict_proba(new))
    assert np.array_equal(p, pickle.loads(pickle.dumps(model)).predict_proba(new))
    assert model.predict(X.iloc[:1]).shape == (1,)
    whole = FieldEmbedding(
        dataclasses.replace(
            context(),
            n_ids=tuple(model.encoder_.n_ids_),
            n_numeric=1,
            sequences=tuple((n, 3) for n in model.encoder_.sequence_n_ids_),
        )
    )
    assert model.nbytes_["embedding"] <= 4 * sum(p.numel() for p in whole.parameters())
    names = list(model.embedding_sizes_)
    if name in ("pep", "magnitude"):
        assert names == [c for c in model.encoder_.field_names_ if c != "x0"]
    else:
        assert names == list(model.encoder_.field_names_)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_tables_of_one_row_and_of_constant_columns(name, small):
    X, y = small
    for table, labels in (
        (pd.DataFrame({"a": ["x"] * 40, "b": ["y"] * 40}), np.arange(40) % 2),
        (pd.DataFrame({"a": ["x", "y"]}), np.array([0, 1])),
        (X[["x0"]], y),
    ):
        model = CTRClassifier(
            network="fm", search=METHODS[name], embedding_dim=4, max_epochs=1, random_state=0
        )
        model.fit(table, labels)
        assert np.isfinite(model.predict_proba(table.iloc[:1])).all()
        assert set(model.embedding_sizes_) == {*table}
    single = CTRClassifier(
        network="fm", search=METHODS[name], embedding_dim=4, max_epochs=1, random_state=0
    )
    single.fit(X.iloc[:1], y[:1])
    assert single.predict(X.iloc[:1]).tolist() == [y[0]]


def test_fields_of_every_kind_get_a_width(small):
    X, y = small
    model = CTRClassifier(
        network="fm",
        search=AutoDim((1, 4), normalize=True),
        embedding_dim=4,
        max_epochs=3,
        random_state=0,
    ).fit(X, y)
    assert set(model.embedding_sizes_) == set(X.columns) and set(
        model.embedding_sizes_.values()
    ) <= {1, 4}
    assert model.architecture_["embedding"]["params"]["normalize"] is True
    assert {"temperature", "mean_width"} <= set(model.search_history_[-1])


def test_unrolled_search_runs(small):
    X, y = small
    model = CTRClassifier(
        network="deepfm",
        search=AutoDim(level="unrolled"),
        embedding_dim=4,
        max_epochs=3,
        random_state=0,
    ).fit(X, y)
    assert set(model.embedding_sizes_.values()) <= {1, 2, 4}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"candidates": (1, 9)}, "between 0 and embedding_dim=4, got"),
        ({"candidates": ()}, "between 0 and embedding_dim=4, got"),
        ({"candidates": (1.5,)}, "between 0 and embedding_dim=4, got"),
        ({"temperature": (1.0,)}, "temperature must be two positive numbers"),
        ({"temperature": (1.0, 0.0)}, "temperature must be two positive numbers"),
        ({"search_fraction": 1.0}, "'search_fraction' parameter of AutoDim"),
        ({"warmup": 1.0}, "'warmup' parameter of AutoDim"),
        ({"level": "second"}, "'level' parameter of AutoDim"),
    ],
)
def test_bad_parameters_are_named(options, message, small):
    with pytest.raises(ValueError, match=message):
        CTRClassifier(network="fm", search=AutoDim(**options), embedding_dim=4, max_epochs=1).fit(
            *small
        )
