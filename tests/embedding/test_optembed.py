import functools
import warnings

import numpy as np
import pytest
import torch
from size_cases import batch, context, expected_vectors, odd_table, planted
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import OptEmbed
from sklearn_autorec.embedding._optembed import LongTailedStep, ThresholdedEmbedding, WidthSpace
from sklearn_autorec.engine import SearchProblem
from sklearn_autorec.nn import mask_from_text
from sklearn_autorec.serving import load, save


def test_the_step_has_the_gradient_of_a_wide_hat():
    x = torch.tensor([-2.0, -1.0, -0.7, -0.4, -0.1, 0.0, 0.1, 0.3, 0.5, 1.0, 1.5])
    x.requires_grad_()
    step = LongTailedStep.apply(x)
    assert step.tolist() == [0.0] * 6 + [1.0] * 5
    (step * torch.arange(11)).sum().backward()
    slope = np.array([0, 0.4, 0.4, 0.4, 1.6, 2, 1.6, 0.8, 0.4, 0.4, 0])
    np.testing.assert_allclose(x.grad, slope * np.arange(11), rtol=1e-6)


@pytest.mark.parametrize("row_wise", [False, True])
def test_short_vectors_and_later_columns_are_not_read(row_wise):
    c = context(0.3, 4, sparse_gradients=row_wise)
    module, x = ThresholdedEmbedding(c, OptEmbed()), batch(c)
    module.thresholds.data = torch.tensor([1.0, 0.5, 0.9])
    module.paths.current = {"widths": [3, 4, 1]}
    whole = np.split(module.weight.detach().numpy(), [12, 17])
    tables = [
        own * (np.abs(own).sum(1, keepdims=True) > t) * (np.arange(4) < width)
        for own, t, width in zip(whole, (1.0, 0.5, 0.9), (3, 4, 1), strict=True)
    ]
    expected = expected_vectors(x, tables)
    e = module(x)
    np.testing.assert_allclose(e[:, [0, 1, 3, 4]].detach(), expected, rtol=1e-5, atol=1e-7)
    kept = module.kept_rows()
    assert [k.tolist() for k in kept] == [t.any(1).tolist() for t in tables]
    assert 0 < kept[0].sum() < 12
    assert module.summary() == {"rows_kept": sum(k.sum() for k in kept) / 24}


def test_thresholds_feel_what_rows_are_worth_and_the_pull():
    c = context(0.3, 4)
    module, x = ThresholdedEmbedding(c, OptEmbed(alpha=0.2)), batch(c)
    module.thresholds.data = torch.tensor([0.4, -0.5, 0.1])
    module.paths.current = {"widths": [4, 2, 3]}
    e, worth = module(x), torch.randn(40, 5, 4, generator=torch.Generator().manual_seed(2))
    ((e * worth)[:, :2].sum() + module.penalty()).backward()
    slopes = []
    whole = np.split(module.weight.detach().numpy().astype(float), [12, 17])
    for f, width in ((0, 4), (1, 2)):
        rows = whole[f][x.ids[:, f].numpy()]
        t = module.thresholds[f].item()
        distance = np.abs(np.abs(rows).sum(1) - t)
        hat = np.where(distance <= 0.4, 2 - 4 * distance, np.where(distance <= 1, 0.4, 0))
        of_step = (rows * worth[:, f].numpy())[:, :width].sum(1)
        slopes.append(-(hat * of_step).sum() - 0.2 * np.exp(-t))
    slopes.append(-0.2 * np.exp(-0.1))
    np.testing.assert_allclose(module.thresholds.grad, slopes, rtol=1e-4)
    assert module.arch_parameters() == [module.thresholds]


def test_widths_are_drawn_evenly_change_one_at_a_time_and_fit():
    random = np.random.default_rng(0)
    n_rows = np.array([10, 3, 0])
    space = WidthSpace(4 * n_rows, 4, 4 * 25, np.random.default_rng(1))
    drawn = np.array([space.draw(random)["widths"] for _ in range(2000)])
    assert {*drawn.ravel().tolist()} == {1, 2, 3, 4}
    assert np.abs((drawn == 1).mean(0) - 0.25).max() < 0.04
    parent, seen = {"widths": [2, 0, 3]}, set()
    for _ in range(300):
        child = space.mutate(parent, random)["widths"]
        changed = [(f, w) for f, w in enumerate(child) if w != parent["widths"][f]]
        assert len(changed) == 1 and parent == {"widths": [2, 0, 3]}
        seen |= {*changed}
    assert len(seen) == 3 * 4
    for widths in drawn[:200].tolist():
        repaired = np.array(space.repair({"widths": widths})["widths"])
        assert (repaired * n_rows).sum() <= 25 and (repaired <= widths).all()
        assert repaired[2] == widths[2]  # costs nothing
        if (np.array(widths) * n_rows).sum() <= 25:
            assert repaired.tolist() == widths
        else:  # with one column more it did not fit
            assert (repaired * n_rows).sum() > 25 - 10


# What is found
# ------------------------------------------------------------------------------------------

OPTIONS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.02,
    "batch_size": 256,
    "search_epochs": 12,
    "max_epochs": 6,
    "device": "cpu",
}
WHOLE = 4 * 8 * (102 + 10 + 102)


def fit(seed, search, shuffled=False):
    X, y, _, _ = planted(seed)
    y = np.random.default_rng(seed).permutation(y) if shuffled else y
    return CTRClassifier(search=search, random_state=seed, **OPTIONS).fit(X, y)


def loss(model, seed):
    _, _, X, y = planted(seed)
    return log_loss(y, model.predict_proba(X)[:, 1])


@functools.cache
def fitted(seed):
    return fit(seed, OptEmbed())


def finds_the_truth(model):
    entry = model.architecture_["embedding"]
    rich, partner, noise = entry["table_widths"]
    return rich > 0 and partner > 0 and noise == 0


@pytest.mark.parametrize("seed", range(5))
def test_noise_loses_its_values_and_its_columns(seed):
    model = fitted(seed)
    entry = model.architecture_["embedding"]
    assert finds_the_truth(model) and min(entry["table_widths"][:2]) >= 3
    assert entry["thresholds"][2] > max(entry["thresholds"][:2]) + 0.5
    assert entry["table_rows"][2] < 70 and entry["table_rows"][0] >= 95
    sizes = model.embedding_sizes_
    assert not sizes["noise"].any() and not sizes["partner"][0]  # no row had the missing value
    n_bytes = 4 * sum(own.sum() for own in sizes.values())
    assert n_bytes <= model.nbytes_["embedding"] <= 1.08 * n_bytes
    assert model.nbytes_["embedding"] + model.nbytes_["index"] <= 0.5 * WHOLE
    assert loss(model, seed) < loss(fit(seed, None), seed) - 0.02
    # The controls: labels of nothing, and thresholds that are learned where weights are.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OptEmbed.* keeps no number of the embedding tables")
        assert not finds_the_truth(fit(seed, OptEmbed(), shuffled=True))
    if seed < 2:
        own_rows = fit(seed, OptEmbed(level="one_level")).architecture_["embedding"]
        assert own_rows["table_rows"][2] > 95


@pytest.mark.parametrize("budget", [0.15, 0.08, 800])
def test_the_budget_holds(budget):
    model = fit(0, OptEmbed(budget=budget, n_evaluations=40))
    limit = budget if budget > 1 else budget * WHOLE
    assert 0.5 * limit < model.nbytes_["embedding"] + model.nbytes_["index"] <= limit


def test_searched_weights_may_serve_as_they_are():
    model, anew = fit(0, OptEmbed(retrain="none")), fitted(0)
    own, other = model.architecture_["embedding"], anew.architecture_["embedding"]
    assert own["mask"] == other["mask"] and model.n_iter_ == 0
    assert loss(model, 0) < 0.65  # of a first-order model .69


def test_a_larger_pull_drops_more():
    rows = [
        sum(fit(0, OptEmbed(alpha=alpha, n_evaluations=5)).architecture_["embedding"]["table_rows"])
        for alpha in (0.0, 0.1)
    ]
    assert rows[1] < rows[0] - 5


# Tables of all kinds, and what is refused
# ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed():
    return odd_table()


SMALL = {"embedding_dim": 6, "max_epochs": 1, "search_epochs": 2, "random_state": 0}


@pytest.mark.parametrize("network", ["fm", "deepfm"])
@pytest.mark.parametrize("cls", [CTRClassifier, RatingRegressor])
def test_odd_tables_fit_predict_and_come_back(cls, network, mixed, tmp_path):
    X, y = mixed
    model = cls(network=network, search=OptEmbed(n_evaluations=20), **SMALL).fit(X, y * 1.0)
    new = X[:5].assign(a=["unseen", None, "1", "2", "3"])
    predictions = model.predict(new)
    assert np.isfinite(predictions.astype(float)).all() and len(model.predict(new[:1])) == 1
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(new), predictions)
    mask = mask_from_text(model.architecture_["embedding"]["mask"])
    assert mask.sum() <= 0.5 * mask.size


def test_numbers_alone_have_no_table_to_search():
    X = np.random.default_rng(0).normal(size=(100, 3))
    model = CTRClassifier(network="fm", search=OptEmbed(), **SMALL).fit(X, X[:, 0] > 0)
    assert model.predict(X).shape == (100,)


@pytest.mark.filterwarnings("ignore:OptEmbed.* keeps no number")  # of labels without an effect
@pytest.mark.parametrize("level", ["one_level", "first_order"])
def test_rows_that_judge_train_no_weights(level, mixed, monkeypatch):
    trained, scored = [], []
    real_train, real_score = SearchProblem.train, SearchProblem.score

    def train(self, *args, **kwargs):
        result = real_train(self, *args, **kwargs)
        trained.append((kwargs["rows"], getattr(result.net, "arch_batches", None)))
        return result

    def score(self, result, rows=None):
        scored.append(rows)
        return real_score(self, result, rows)

    monkeypatch.setattr(SearchProblem, "train", train)
    monkeypatch.setattr(SearchProblem, "score", score)
    search = OptEmbed(level=level, search_fraction=0.3, n_evaluations=7)
    CTRClassifier(network="fm", search=search, **SMALL).fit(*mixed)
    ((rows, own),) = trained
    assert len(scored) == 7 and all(len(judging) == 60 for judging in scored)
    if level == "one_level":
        assert own is None
        assert sorted([*rows.tolist(), *scored[0].tolist()]) == list(range(200))
    else:  # the schedule holds the same rows back, see tests/engine/test_problem.py
        assert rows is None and own is not None


def test_an_interrupted_search_serves_what_it_has(mixed, interrupted_searches):
    model = CTRClassifier(network="fm", search=OptEmbed(), **{**SMALL, "search_epochs": 4})
    with pytest.warns(UserWarning, match="was interrupted"):
        model.fit(*mixed)
    assert model.architecture_["embedding"]["table_widths"] == [6, 6, 6]
    assert model.predict_proba(mixed[0])[:, 1].std() > 0


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 1.5},
        {"alpha": -1.0},
        {"arch_lr": 0.0},
        {"level": "unrolled"},
        {"n_evaluations": 0},
        {"population": 0},
        {"search_fraction": 1.0},
        {"retrain": "again"},
    ],
)
def test_bad_parameters_are_named(options, mixed):
    (name,) = options
    with pytest.raises(ValueError, match=f"'{name}' parameter of OptEmbed"):
        CTRClassifier(network="fm", search=OptEmbed(**options), **SMALL).fit(*mixed)


@pytest.mark.parametrize("mask", [None, {}, {"shape": [3, 2], "bits": "AA=="}])
def test_a_mask_of_another_table_is_refused(mask):
    with pytest.raises(ValueError, match="mask"):
        OptEmbed().check({"mask": mask}, context())
