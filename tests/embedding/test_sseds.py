import copy

import numpy as np
import pytest
import torch
from any_network import fitted_by_both
from searching import fit_fm
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import SSEDS, EqualSize, _sseds
from sklearn_autorec.embedding._sseds import (
    GatedColumns,
    ablation_scores,
    gradient_scores,
    widths_within,
)
from sklearn_autorec.engine import EncodedTensors, SearchProblem, TrainingPlan, _search_phase
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext

N, D = 150, 3
PLANTED = {
    "n_fields": 5,
    "cardinality": 20,
    "zipf": 0.0,
    "pairs": [(0, 1), (2, 3)],
    "rank": [6, 6, 1, 1, 1],
    "pair_effect": 3.0,
}


def problem(weighted=True):
    """A categorical, a numeric and a list field."""
    generator = torch.Generator().manual_seed(0)
    context = BuildContext(
        field_names=("a", "number", "items"),
        n_ids=(7,),
        n_numeric=1,
        sequences=((5, 2),),
        embedding_dim=D,
        embedding_init=0.3,
        generator=torch.Generator().manual_seed(1),
    )
    ids = torch.randint(0, 7, (N, 1), generator=generator).int()
    numbers = torch.cat([torch.randn(N, 1, generator=generator), torch.zeros(N, 1)], 1)
    items = torch.randint(0, 5, (N, 2), generator=generator).int()
    y = (torch.rand(N, generator=generator) < 0.4).float()
    weight = torch.linspace(0.5, 1.5, N) if weighted else None
    data = EncodedTensors(ids, numbers, items, y, weight)
    plan = TrainingPlan(epochs=2, batch_size=40, lr=0.02)
    return SearchProblem(FM(), context, ("embedding",), dict, BinaryLogLoss(), data, plan, "cpu")


def losses_with(p, state, gates, rows):
    """Weighted mean log loss of a factorization machine, in numpy."""
    w = {name: t.double().numpy() for name, t in state.items()}
    ids, items = p.data.ids[rows].numpy(), p.data.sequences[rows].numpy()
    x, missing = p.data.numeric[rows].double().numpy().T[..., None]

    def vectors(table, numbers):
        item_rows = table[7 + items]
        present = (items > 0)[..., None]
        pooled = (item_rows * present).sum(1) / np.maximum(present.sum(1), 1)
        number = x * numbers[0] + numbers[2] + missing * numbers[1]
        return np.stack([table[ids[:, 0]], number, pooled], 1)

    # The vectors of "linear" numbers: of the value, of the missing indicator, of the bias.
    e = vectors(w["embedding.weight"], w["embedding.numeric_weight"][:, 0]) * gates
    first = vectors(w["linear.weight"], w["linear.numeric_weight"][:, 0]).sum((1, 2))
    pairs = (e.sum(1) ** 2 - (e**2).sum(1)).sum(1) / 2
    logit = first + pairs + w["linear.bias"]
    y = p.data.y[rows].numpy()
    losses = np.logaddexp(0, np.where(y == 1, -logit, logit))
    weight = None if p.data.weight is None else p.data.weight[rows].numpy()
    return losses, weight


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_agree_with_numpy(weighted):
    p = problem(weighted)
    table = GatedColumns(p.context)
    rows, held_out = p.split(0.4)
    result = p.train(table, rows=rows)
    state = result.net.module_.state_dict()

    def mean(gates):
        losses, weight = losses_with(p, state, gates, held_out)
        return np.average(losses, weights=weight)

    whole = mean(np.ones((3, D)))
    assert p.score(result, held_out) == pytest.approx(whole, rel=1e-6)
    expected, slopes = np.zeros((3, D)), np.zeros((3, D))
    for place in np.ndindex(3, D):
        for change, into in ((-1.0, expected), (1e-4, slopes), (-1e-4, slopes)):
            gates = np.ones((3, D))
            gates[place] += change
            into[place] += (mean(gates) - whole) * (1 if change == -1.0 else np.sign(change))
    scores = ablation_scores(p, result, table, held_out)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.abs(expected).min() > 1e-5 and table.gates is None
    shares = gradient_scores(p, result, table, held_out)
    np.testing.assert_allclose(shares, np.abs(slopes) / np.abs(slopes).sum(), rtol=1e-3, atol=1e-5)
    assert shares.sum() == pytest.approx(1) and table.gates is None


@pytest.mark.parametrize(
    "limit, expected",
    [
        (4 * 44, [2, 2]),
        (4 * 41, [1, 2]),
        (4 * 22, [1, 1]),
        (4 * 6, [0, 2]),
        (4 * 21, [1, 0]),
        (4 * 3, [0, 1]),
    ],
)
def test_columns_are_taken_by_their_score_per_number_while_they_fit(limit, expected):
    # Of 20 and of 2 numbers: 0.5, 0.1 and 0.4, 0.005 a number.
    scores = np.array([[10.0, 2.0], [0.8, 0.01]])
    # 21 numbers do not hold a column of each: the better one a number goes first.
    assert widths_within(scores, np.array([20, 2]), limit) == expected


def planted(seed, n=6000):
    X, y, truth = make_ctr(n + 4000, **PLANTED, random_state=seed)
    return (X[:n], y[:n]), (X[n:], y[n:]), truth


def fit(rows, search, seed=0, **options):
    options = {"lr": 0.02, "embedding_init": 0.1, "max_epochs": 8, "batch_size": 200} | options
    return fit_fm(rows, search, seed, **options)


@pytest.mark.parametrize("seed", range(5))
def test_noise_keeps_no_column_and_the_budget_goes_where_rank_is(seed, monkeypatch):
    train, test, _ = planted(seed)

    def judged(search):
        model = fit(train, search, seed)
        return list(model.embedding_sizes_.values()), log_loss(
            test[1], model.predict_proba(test[0])
        )

    widths, loss = judged(SSEDS(0.4))
    assert widths[4] == 0 and sum(widths) == 16 and sum(widths[:2]) > sum(widths[2:4])
    _, equal = judged(EqualSize(0.4))
    assert loss < equal - 0.02
    # The control: scores of the same columns, dealt to other fields.
    real = _sseds.ablation_scores

    def others(*args):
        return np.roll(real(*args), 1, 0)

    monkeypatch.setattr(_sseds, "ablation_scores", others)
    shifted, worse = judged(SSEDS(0.4))
    assert shifted[4] and not shifted[0] and worse > loss + 0.1


def test_the_gradient_keeps_noise():
    """What the notes say: near convergence the proxy does not know which field is noise."""
    kept = [
        list(
            fit(
                planted(seed)[0], SSEDS(0.4, "gradient"), seed, max_epochs=8
            ).embedding_sizes_.values()
        )
        for seed in (0, 1, 3)
    ]
    assert all(widths[4] > 2 and sum(widths) == 16 for widths in kept)


@pytest.mark.parametrize("network", ["auto", "deepfm", "dcn", "fwfm"])
def test_it_searches_around_any_network_and_for_ratings(network, mixed):
    for model in fitted_by_both(mixed, network, SSEDS(0.5), search_epochs=1):
        context_rows = [*model.encoder_.n_ids_, 26, *model.encoder_.sequence_n_ids_]
        whole = 16 * sum(context_rows)
        assert 0.4 * whole < model.nbytes_["embedding"] <= 0.5 * whole
        assert sum(model.embedding_sizes_.values()) < 24


def test_a_whole_budget_keeps_everything_and_may_keep_the_tables(mixed):
    model = fit(mixed, SSEDS(1.0, retrain="keep"), max_epochs=1)
    assert set(model.embedding_sizes_.values()) == {8}
    assert model.compression_ratio_ == 1.0
    scores = np.array(model.architecture_["embedding"]["column_scores"])
    assert scores.shape == (6, 8) and np.isfinite(scores).all() and scores.std() > 0
    few = fit(mixed, SSEDS(4 * 3), max_epochs=1)  # the column of unknown and one value
    assert sum(few.embedding_sizes_.values()) == 1 and few.embedding_sizes_["same"] == 1


def test_rows_that_score_are_not_trained_on(mixed, monkeypatch):
    seen = []
    real_train, real_score = SearchProblem.train, SearchProblem.score

    def train(self, *args, rows=None, **kwargs):
        seen.append(("train", rows))
        return real_train(self, *args, rows=rows, **kwargs)

    def score(self, result, rows=None):
        seen.append(("score", rows))
        return real_score(self, result, rows)

    monkeypatch.setattr(SearchProblem, "train", train)
    monkeypatch.setattr(SearchProblem, "score", score)
    fit(mixed, SSEDS(0.5, search_fraction=0.3), max_epochs=1)
    (_, trained), *scored = seen
    assert len(scored) == 1 + 6 * 8 and len(trained) == 560
    for kind, rows in scored:
        assert kind == "score" and sorted([*trained.tolist(), *rows.tolist()]) == list(range(800))


def test_an_interrupted_search_cuts_nothing_and_serves_what_it_has(mixed, monkeypatch):
    X, y = mixed
    problems = []

    class Problem(_search_phase.SearchProblem):
        def __init__(self, *args):
            super().__init__(*args)
            problems.append(self)

            def on_epoch(epoch, record):
                if epoch:
                    raise KeyboardInterrupt

            self.on_epoch = on_epoch

        def train(self, *args, **kwargs):
            self.trained = super().train(*args, **kwargs)
            return self.trained

    monkeypatch.setattr(_search_phase, "SearchProblem", Problem)
    with pytest.warns(UserWarning, match="was interrupted"):
        model = fit(mixed, SSEDS(0.3), max_epochs=4)
    assert set(model.embedding_sizes_.values()) == {8}
    data = EncodedTensors.from_table(model.encoder_.encode(X), "cpu")
    network = copy.deepcopy(problems[0].trained.net.module_).eval()
    with torch.no_grad():
        p = torch.sigmoid(network(**data.inputs))[:, 0].numpy()
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], p, rtol=1e-5)


def test_what_does_not_fit_is_refused(mixed):
    with pytest.raises(
        ValueError, match=r"budget=8 leaves 8 bytes, fewer than the smallest column"
    ):
        fit(mixed, SSEDS(8))
    for bad in (0, 1.5, -0.1, "half"):
        with pytest.raises(ValueError, match="'budget' parameter of SSEDS"):
            fit(mixed, SSEDS(bad))
    with pytest.raises(ValueError, match="'score' parameter of SSEDS"):
        fit(mixed, SSEDS(score="hessian"))
    model = fit(mixed, SSEDS(0.5), max_epochs=1)
    for widths in ([1] * 5, [9] * 6, [-1] * 6, [True] * 6, None):
        architecture = copy.deepcopy(model.architecture_)
        architecture["embedding"]["widths"] = widths
        with pytest.raises(ValueError, match="widths must hold 6 whole numbers"):
            CTRClassifier.from_architecture(architecture, max_epochs=1).fit(*mixed)
