"""PEP: targets, retraining, masks that hold, planted truth."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from pep_cases import GRANULARITIES, context, random_inputs, sigmoid
from sklearn.base import clone
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, MagnitudePruning
from sklearn_autorec.embedding._masks import strongest
from sklearn_autorec.embedding._pep import ThresholdedEmbedding
from sklearn_autorec.engine import EncodedTensors, FieldNet, _search_phase
from sklearn_autorec.estimators import _context, _stages
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, MaskedEmbedding, mask_from_text


def small_table(seed=0, **options):
    X, y, _ = make_ctr(
        1500, n_fields=4, cardinality=12, zipf=0.5, pairs=2, random_state=seed, **options
    )
    return X, y


def small_model(search, **options):
    options = {
        "network": "fm",
        "embedding_dim": 8,
        "lr": 0.01,
        "max_epochs": 3,
        "batch_size": 128,
        "id_dropout": 0.0,
        **options,
    }
    return CTRClassifier(search=search, random_state=0, **options)


def mask_of(model):
    return mask_from_text(model.architecture_["embedding"]["mask"])


@pytest.mark.parametrize("target", [0, 0.1, 0.35, 0.5, 0.77, 0.9, 0.99, 1.0])
def test_the_target_is_met_exactly_up_to_rows_never_trained(target):
    X, y = small_table()
    model = small_model(PEP(target_sparsity=target)).fit(X, y)
    mask = mask_of(model)
    # The missing and the unknown value of each field are in no training row.
    dead = np.concatenate([np.arange(n) < 2 for n in model.encoder_.n_ids_])
    trained = int((~dead).sum()) * 8
    assert mask.sum() == min(round((1 - target) * mask.size), trained)
    assert not mask[dead].any()
    stored = int((model.net_.module_.embedding.values != 0).sum())
    assert stored == mask.sum()
    sizes = np.concatenate([*model.embedding_sizes_.values()])
    assert np.array_equal(sizes, mask.sum(1))
    if target == 1.0:
        # Nothing but the first-order term is left.
        assert model.net_.module_.embedding.values.numel() == 0 and model.nbytes_["embedding"] == 0
        with torch.no_grad():
            model.net_.module_.linear.weight.zero_()
        assert np.ptp(model.predict_proba(X)[:, 1]) == 0
    model.partial_fit(X, y)
    assert np.array_equal(mask_of(model) & ~mask, np.zeros_like(mask))


@pytest.mark.parametrize("method", [PEP, MagnitudePruning])
@pytest.mark.parametrize("retrain", ["rewind", "scratch", "keep"])
@pytest.mark.parametrize("lazy", [False, True])
def test_retraining_starts_from_the_declared_weights(method, retrain, lazy, monkeypatch):
    X, y = small_table(n_numeric=1, n_sequences=1)
    starts, problems = [], []
    real_train, real_problem = _stages.train, _search_phase.SearchProblem

    def spy_train(net, *args, **kwargs):
        module = net.module
        starts.append(
            {name: t.detach().clone() for name, t in module.state_dict().items()}
            | {"mask": module.embedding.mask, "read": read(module.embedding)}
        )
        return real_train(net, *args, **kwargs)

    def spy_problem(*args, **kwargs):
        problems.append(real_problem(*args, **kwargs))
        return problems[-1]

    def read(embedding):
        """Every row of every table as the network sees it."""
        assert isinstance(embedding, MaskedEmbedding)
        embedding._masked = embedding.weight * embedding.mask
        return embedding.lookup(None, torch.arange(embedding.n_rows), None).detach().clone()

    monkeypatch.setattr(_stages, "train", spy_train)
    monkeypatch.setattr(_search_phase, "SearchProblem", spy_problem)
    if lazy:
        monkeypatch.setattr(_context, "LAZY_TABLE_FACTOR", 0)
    model = small_model(method(retrain=retrain, target_sparsity=0.5)).fit(X, y)
    ((start,), (problem,)) = starts, problems
    initial, final = problem.initial_state, problem.final_state
    mask = mask_of(model)
    assert torch.equal(start["mask"], torch.from_numpy(mask)) and 0 < mask.mean() < 1
    for name in ("embedding.weight", "embedding.numeric_weight"):
        assert not torch.equal(initial[name], final[name])
        assert torch.equal(start[name], initial[name]) == (retrain == "rewind")
        assert torch.equal(start[name], final[name]) == (retrain == "keep")
    assert torch.equal(start["read"], start["embedding.weight"] * start["mask"])


@pytest.mark.parametrize("row_wise", [False, True])
def test_masked_elements_have_no_influence_and_no_gradient(row_wise):
    c = context(sparse_gradients=row_wise)
    mask = np.random.default_rng(0).random((16, 3)) < 0.5
    module = MaskedEmbedding(c, mask)
    x = random_inputs(c, 30)
    before = module(x)
    before.square().sum().backward()
    gradient = module.weight.grad.to_dense() if row_wise else module.weight.grad
    assert (gradient[~torch.from_numpy(mask)] == 0).all() and (
        gradient[torch.from_numpy(mask)] != 0
    ).any()
    with torch.no_grad():
        module.weight[~torch.from_numpy(mask)] = 1e3
    torch.testing.assert_close(module(x), before, rtol=0, atol=0)
    packed = module.compact()
    torch.testing.assert_close(packed(x), before)
    assert np.array_equal(packed.mask(), mask)


@pytest.mark.parametrize("target", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
@pytest.mark.parametrize("l2", [0.0, 1e-4])
def test_zeros_stay_zero_when_training_goes_on(target, how, l2):
    X, y = small_table()
    model = small_model(PEP(target_sparsity=target), embedding_l2=l2, warm_start=True).fit(X, y)
    mask, values = mask_of(model), model.net_.module_.embedding.values.detach().clone()
    form = model.net_.module_.embedding.form
    n_parameters, nbytes = model.n_parameters_, model.nbytes_
    if how == "warm_start":
        model.set_params(max_epochs=6).fit(X, y)
    else:
        for _ in range(3):
            model.partial_fit(X, y)
    after = model.net_.module_.embedding
    assert after.form == form and not torch.equal(after.values, values)
    assert np.array_equal(mask_of(model), mask)
    assert model.n_parameters_ == n_parameters and model.nbytes_ == nbytes
    assert model.n_iter_ == 6


def test_zeros_that_a_form_stores_stay_zero():
    # With nearly all elements kept, an index would cost more than the zeros: they are stored.
    X, y = small_table()
    model = small_model(PEP(target_sparsity=0.1), id_dropout=0.1).fit(X, y)
    mask, embedding = mask_of(model), model.net_.module_.embedding
    trained = np.concatenate([np.arange(n) > 0 for n in model.encoder_.n_ids_])
    assert embedding.form in ("dense", "columns", "prefixes") and not mask[trained].all()
    before = embedding.values.detach().clone()
    assert (before == 0).any()
    for _ in range(3):
        model.partial_fit(X, y)
    after = model.net_.module_.embedding.values
    assert torch.equal(after == 0, before == 0) and not torch.equal(after, before)
    assert np.array_equal(mask_of(model), mask)


def paper_run(y_of, threshold_init=None, decay=None, steps=200):
    c = context((20, 20), (), 0)
    options = {} if decay is None else {"threshold_decay": decay}
    method = PEP(schedule="paper", **options)
    module = method.build(c)
    if threshold_init is not None:
        with torch.no_grad():
            module.threshold.fill_(threshold_init)
    net = FieldNet(FM().build(c, {"embedding": module}), BinaryLogLoss(), lr=0.01)
    net.n_steps = steps
    net.initialize()
    net.module_.train()
    ids = torch.cartesian_prod(torch.arange(20), torch.arange(20)).int()
    batch = EncodedTensors(ids, torch.zeros(400, 0), torch.zeros(400, 0).int(), y_of(ids))
    start = module.weight.detach().clone()
    for _ in range(steps):
        net.train_step(batch)
    return module, start


TASKS = {
    "pairs": lambda ids: ((ids[:, 0] + ids[:, 1]) % 2).float(),
    "noise": lambda ids: (
        torch.rand(len(ids), generator=torch.Generator().manual_seed(0)) < 0.3
    ).float(),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_paper_s_thresholds_move_by_decay_alone(task):
    module, start = paper_run(TASKS[task])
    s = module.threshold.detach()
    # 200 steps of Adam at 0.001 against a gradient of one sign.
    assert s.mean().item() == pytest.approx(-15 + 200 * 1e-3, abs=0.01)
    assert s.std().item() < 1e-3
    assert not torch.equal(module.weight, start)
    assert (module.thresholded(torch.arange(40)) != 0).all()


def test_rising_thresholds_move_together_and_reach_the_size_of_embeddings():
    c = context((20, 20), (), 0, embedding_init=0.05)

    def run(schedule, n_values, steps, n_steps):
        """A search whose batches hold the first values of each column only."""
        module = PEP(schedule=schedule).build(c)
        net = FieldNet(FM().build(c, {"embedding": module}), BinaryLogLoss(), lr=0.01)
        net.n_steps = n_steps
        net.initialize()
        net.module_.train()
        ids = torch.cartesian_prod(torch.arange(n_values), torch.arange(n_values)).int()
        empty = torch.zeros(len(ids), 0)
        batch = EncodedTensors(ids, empty, empty.int(), TASKS["pairs"](ids))
        for _ in range(steps):
            net.train_step(batch)
        absent = torch.cat([torch.arange(n_values, 20), torch.arange(20 + n_values, 40)])
        return module, module.threshold.detach()[absent]

    # In a quarter of the search decay alone brings s a quarter of 30 further, in all rows; a
    # little less, since Adam divides by what the decay was when s was lower.
    _, absent = run("rise", n_values=10, steps=50, n_steps=200)
    torch.testing.assert_close(absent, torch.full_like(absent, -15 + 7.2), atol=0.5, rtol=0)
    _, absent = run("paper", n_values=10, steps=50, n_steps=200)
    assert (absent == -15).all()
    ends = {}
    for schedule in ("rise", "pressure", "paper"):
        module, _ = run(schedule, n_values=20, steps=200, n_steps=200)
        size = torch.sigmoid(module.threshold.detach()).median() / module.weight.abs().median()
        ends[schedule] = size.item()
    assert ends["rise"] > 0.02 > 20 * ends["pressure"] and ends["paper"] < 1e-5


def test_thresholds_of_the_largest_tables_of_the_paper_cannot_move_without_decay():
    module = PEP(threshold_init=-150.0).build(context())
    assert torch.sigmoid(module.threshold).abs().sum() == 0  # in float32, and with it the gradient
    module(random_inputs(context())).square().sum().backward()
    assert module.threshold.grad.to_dense().abs().sum() == 0
    decayed, _ = paper_run(TASKS["pairs"], threshold_init=-150.0)
    assert decayed.threshold.mean().item() == pytest.approx(-150 + 200 * 1e-3, abs=0.02)


def planted(seed):
    """Two fields of rank 6, two of rank 1, one of noise; 40,000 training and 20,000 test rows."""
    r = np.random.default_rng(seed)
    ids = r.integers(0, 60, (40_000, 5))
    tables = [r.normal(size=(60, width)) for width in (6, 6, 1, 1)]
    tables = [(t - t.mean(0)) / t.std(0) for t in tables]

    def labels(ids):
        a, b, c, d = (t[ids[:, f]] for f, t in enumerate(tables))
        return (r.random(len(ids)) < sigmoid((a * b).sum(1) + (c * d).sum(1))).astype(int)

    def frame(ids):
        return pd.DataFrame({f"f{f}": ids[:, f].astype(str) for f in range(5)})

    y, new = labels(ids), r.integers(0, 60, (20_000, 5))
    return frame(ids), y, frame(new), labels(new)


@functools.cache
def fitted(method, seed, shuffled=False):
    """Share of the elements kept per field (values only), and log loss on new rows."""
    X, y, X_new, y_new = planted(seed)
    search = {
        "PEP": PEP(target_sparsity=0.6),
        "rise": PEP(target_sparsity=0.6, schedule="rise"),
        "magnitude": MagnitudePruning(target_sparsity=0.6),
        "dense": None,
    }
    model = CTRClassifier(
        network="fm",
        search=search[method],
        embedding_dim=8,
        max_epochs=1 if shuffled else 15,
        search_epochs=6 if shuffled else 10,
        early_stopping=False,
        random_state=seed,
        batch_size=2048,
        lr=0.03,
    )
    model.fit(X, np.random.default_rng(seed).permutation(y) if shuffled else y)
    loss = log_loss(y_new, model.predict_proba(X_new))
    if method == "dense":
        return None, loss
    kept = [block[2:].mean() for block in np.split(mask_of(model), 5)]
    return np.array(kept), loss


def finds_the_truth(kept, times=2.0):
    return kept[4] < 0.05 and kept[:2].mean() > times * kept[2:4].mean()


@pytest.mark.parametrize("seed", range(5))
def test_planted_ranks_decide_what_is_kept(seed):
    kept, loss = fitted("PEP", seed)
    assert finds_the_truth(kept), kept
    assert loss < fitted("dense", seed)[1] + 0.015


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_and_random_masks_find_nothing(seed):
    kept, _ = fitted("PEP", seed, shuffled=True)
    assert kept[4] > 0.2 and kept[:2].mean() < 1.5 * kept[2:4].mean()
    scores = np.random.default_rng(seed).random((5 * 62, 8))
    random = np.array([block[2:].mean() for block in np.split(strongest(scores, 0.6), 5)])
    assert not finds_the_truth(random)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("method", ["magnitude", "rise"])
def test_magnitude_pruning_and_rising_thresholds_find_the_same(method, seed):
    kept, loss = fitted(method, seed)
    assert finds_the_truth(kept, 1.9), kept
    assert loss < fitted("dense", seed)[1] + 0.015


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target_sparsity": 1.5}, "'target_sparsity' parameter of PEP"),
        ({"granularity": "row"}, "'granularity' parameter of PEP"),
        ({"pressure": -1.0}, "'pressure' parameter of PEP"),
        ({"schedule": "linear"}, "'schedule' parameter of PEP"),
    ],
)
def test_bad_parameters_are_named(options, message):
    X, y = small_table()
    with pytest.raises(ValueError, match=message):
        small_model(clone(PEP(**options))).fit(X, y)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("schedule", ["pressure", "rise", "paper"])
def test_every_granularity_and_schedule_fits(granularity, schedule):
    X, y = small_table(n_numeric=1, n_sequences=1)
    model = small_model(PEP(0.5, granularity=granularity, schedule=schedule), max_epochs=1).fit(
        X, y
    )
    assert mask_of(model).mean() == pytest.approx(0.5, abs=0.01)
    names = {type(m).__name__ for m in model.net_.module_.modules()}
    assert ThresholdedEmbedding.__name__ not in names and MaskedEmbedding.__name__ not in names
    assert {"sparsity", "mean_threshold"} <= set(model.search_history_[0])
