"""The rank scale of numbers, and bins that go by the target."""

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeRegressor

from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._ranks import cuts_by_target


def frame(x):
    return pd.DataFrame({"x": np.asarray(x, dtype=float)})


def scaled(x, **options):
    options = {"categorical_features": None} | options
    y = options.pop("y", None)
    return FieldEncoder(**options).fit_encode(frame(x), y).numeric[:, 0]


def naive_ranks(x, n_bins):
    """Ranks with capped weights, where the cap is found by bisection."""
    values, counts = np.unique(x, return_counts=True)
    if len(values) <= n_bins:
        weights = np.ones(len(values))
    else:
        low, high = 0.0, float(counts.max())
        for _ in range(200):
            cap = (low + high) / 2
            too_high = cap * n_bins > np.minimum(counts, cap).sum()
            low, high = (low, cap) if too_high else (cap, high)
        weights = np.minimum(counts, high)
    middle = np.cumsum(weights) - weights / 2
    return np.interp(x, values, (middle - middle[0]) / (middle[-1] - middle[0]))


@pytest.mark.parametrize("n_bins", [1, 4, 24])
@pytest.mark.parametrize("share_of_zeros", [0.0, 0.5, 0.95])
def test_ranks_are_those_of_capped_weights(n_bins, share_of_zeros):
    rng = np.random.default_rng(0)
    x = np.where(rng.random(3000) < share_of_zeros, 0.0, rng.normal(size=3000).round(2))
    ours = scaled(x, n_bins=n_bins, n_quantiles=5000)
    np.testing.assert_allclose(ours, naive_ranks(x, n_bins), atol=1e-6)


def test_no_value_takes_more_than_one_bin():
    """Where zeros fill nine rows of ten, the others keep nearly the whole scale; the plain share
    leaves them a tenth.
    """
    rng = np.random.default_rng(0)
    x = np.where(rng.random(5000) < 0.9, 0.0, rng.exponential(size=5000))
    rest = np.unique(scaled(x, n_bins=10)[x > 0])
    assert rest.max() - rest.min() > 0.9
    plain = np.unique(scaled(x, numeric="quantile")[x > 0]) / np.sqrt(12) + 0.5
    assert plain.max() - plain.min() < 0.15


def test_edges_of_the_scale():
    assert (scaled([3.0, 3.0, np.nan, 3.0]) == 0).all()
    missing = FieldEncoder().fit_encode(frame([np.nan] * 4)).numeric
    assert (missing == [0.0, 1.0]).all()
    assert scaled([1.0, 5.0, 1.0, 1.0, np.nan]).tolist() == [0, 1, 0, 0, 0]
    encoder = FieldEncoder().fit(frame([1.0, 2.0, 3.0]))
    assert encoder.encode(frame([-1e30, 2.5, 1e30])).numeric[:, 0].tolist() == [0, 0.75, 1]
    assert encoder.numeric_range_ == (0.0, 1.0)
    with pytest.raises(ValueError, match="infinity.*'x'"):
        FieldEncoder().fit(frame([1.0, np.inf]))
    with pytest.raises(ValueError, match="infinity.*'x'"):
        encoder.encode(frame([-np.inf]))


def planted(n=4000, seed=0):
    """A step at 0.613 and a plateau between 0.2 and 0.3."""
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    signal = 2.0 * (x > 0.613) - 2.0 * ((x > 0.2) & (x < 0.3))
    return x, signal + rng.normal(scale=0.3, size=n)


def test_bins_by_the_target_take_one_step_at_each_cut():
    x, y = planted()
    ours = scaled(x, y=y, numeric_bins="target", n_bins=16)
    below, above = x[x <= 0.613].argmax(), np.where(x > 0.613, x, np.inf).argmin()
    jump = ours[above] - ours[np.flatnonzero(x <= 0.613)[below]]
    assert jump == pytest.approx(1 / 16, rel=1e-5)
    even = scaled(x, n_bins=16)
    assert even[above] - even[np.flatnonzero(x <= 0.613)[below]] < 0.01
    assert (np.diff(ours[x.argsort()]) >= 0).all()


def test_cuts_by_the_target_are_those_of_a_tree():
    x, y = planted()
    tree = DecisionTreeRegressor(max_leaf_nodes=4, min_samples_leaf=20).fit(x[:, None], y).tree_
    cuts = np.sort(tree.threshold[tree.feature == 0])
    np.testing.assert_allclose(cuts, [0.2, 0.3, 0.613], atol=0.005)
    order = x.argsort()
    places = scaled(x, y=y, numeric_bins="target", n_bins=8)[order]
    steps = np.flatnonzero(np.diff(places) > 0.1)
    np.testing.assert_allclose((x[order][steps] + x[order][steps + 1]) / 2, cuts, atol=1e-9)


@pytest.mark.parametrize("few", ["first", "last"])
def test_a_cut_leaves_rows_on_both_sides(few):
    """Ten rows that differ from all others are too few to be cut off by themselves."""
    values, counts = np.arange(200.0), np.ones(200)
    y = (values < 10 if few == "first" else values >= 190).astype(float)
    assert cuts_by_target(values, counts, np.column_stack([y, y**2]), 4).tolist() == [
        20 if few == "first" else 180
    ]


def test_noise_has_no_cuts():
    x, _ = planted()
    y = np.random.default_rng(9).normal(size=len(x))
    np.testing.assert_array_equal(scaled(x, y=y, numeric_bins="target"), scaled(x))


@pytest.mark.parametrize(
    "bounds", [[0, 1, 2000], [0, 700, 701, 1300, 2000], [*range(0, 2001, 100)]]
)
@pytest.mark.parametrize("bins", ["quantile", "target"])
def test_chunks_give_the_same_bits(bounds, bins):
    x, _ = planted(2000)
    x = np.where(np.random.default_rng(1).random(2000) < 0.4, 0.5, x.round(3))
    x[::17] = np.nan
    y = (np.nan_to_num(x) > 0.613).astype(int)
    options = {"categorical_features": None, "numeric_bins": bins}
    whole, parts = FieldEncoder(**options).fit(frame(x), y), FieldEncoder(**options)
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        parts.partial_fit(frame(x[start:stop]), y[start:stop])
    a, b = whole.encode(frame(x)).numeric, parts.encode(frame(x)).numeric
    assert a.tobytes() == b.tobytes()


def test_labels_and_several_targets():
    x, y = planted()
    labels = np.where(y > 0.5, "yes", "no")
    by_label = scaled(x, y=labels, numeric_bins="target")
    np.testing.assert_array_equal(
        by_label, scaled(x, y=(labels == "yes").astype(int), numeric_bins="target")
    )
    two = np.column_stack([np.random.default_rng(5).normal(size=len(x)), y])
    assert (scaled(x, y=two, numeric_bins="target") != scaled(x)).any()
    with pytest.raises(ValueError, match='numeric_bins="target" needs a target'):
        FieldEncoder(numeric_bins="target").fit(frame(x))
    with pytest.raises(ValueError, match="y must have shape"):
        FieldEncoder(numeric_bins="target").fit(frame(x), y[:-1])


@pytest.mark.parametrize("bins", ["quantile", "target"])
def test_one_row_is_encoded_as_in_a_batch(bins):
    x, y = planted(500)
    x[3] = np.nan
    encoder = FieldEncoder(numeric_bins=bins).fit(frame(x), y)
    batch = encoder.encode(frame(x)).numeric
    for i in range(20):
        assert encoder.encode(frame(x[i : i + 1])).numeric.tobytes() == batch[i : i + 1].tobytes()
