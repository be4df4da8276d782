import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.interaction import (
    BPFIS,
    _bpfis,
    _user_gates,
    user_gates,
    user_interactions,
)
from sklearn_autorec.interaction._bpfis import PersonalPairs, update_gates
from sklearn_autorec.interaction._user_gates import levels_from_text, levels_to_text, pair_gates
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, Inputs, SquaredError, pair_index

OPTIONS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.02,
    "max_epochs": 12,
    "early_stopping": False,
    "device": "cpu",
}


def planted(seed, n=3000, n_users=40, cardinality=6):
    """Two groups of users: f0 and f1 decide for one, f2 and f3 for the other, only in pairs."""
    rng = np.random.default_rng(seed)
    users = rng.integers(n_users, size=n)
    fields = rng.integers(cardinality, size=(n, 4))
    tables = rng.choice([-2.0, 2.0], size=(2, cardinality, cardinality))
    tables -= tables.mean(1, keepdims=True)
    tables -= tables.mean(2, keepdims=True)
    first = users % 2 == 0
    logits = np.where(
        first, tables[0][fields[:, 0], fields[:, 1]], tables[1][fields[:, 2], fields[:, 3]]
    )
    X = pd.DataFrame({f"f{k}": [f"v{v}" for v in fields[:, k]] for k in range(4)})
    X["user"] = [f"u{u}" for u in users]
    return X, logits, rng


def recovery(model):
    """AUC of the pair gates of all users against the pairs of their groups."""
    gates = user_interactions(model)
    first = np.array([int(user[1:]) % 2 == 0 for user in gates.index])
    pairs = [pair for pair in gates.columns if "user" not in pair]
    truth = np.stack([(first == (p == ("f0", "f1"))) & (p in PLANTED) for p in pairs], 1)
    return roc_auc_score(truth.ravel(), gates[pairs].to_numpy().ravel())


PLANTED = (("f0", "f1"), ("f2", "f3"))


def fit(X, y, seed=0, estimator=CTRClassifier, **options):
    search = BPFIS(**{"user_column": "user", **options.pop("search", {})})
    model = estimator(search=search, random_state=seed, **{**OPTIONS, **options})
    return model.fit(X, y)


@pytest.mark.parametrize("seed", range(5))
def test_each_users_planted_pair_is_found_and_nothing_in_shuffled_labels(seed):
    X, logits, rng = planted(seed, 5500)
    y = (rng.random(len(X)) < expit(logits)).astype(int)
    train = slice(0, 4000)
    model = fit(X[train], y[train], seed)
    assert recovery(model) > 0.95
    control = fit(X[train], rng.permutation(y[train]), seed, search_epochs=6, max_epochs=1)
    assert 0.35 < recovery(control) < 0.65
    plain = CTRClassifier(random_state=seed, **OPTIONS).fit(X[train], y[train])
    aucs = [roc_auc_score(y[4000:], m.predict_proba(X[4000:])[:, 1]) for m in (model, plain)]
    assert aucs[0] > aucs[1] + 0.05


@pytest.mark.parametrize("search", [{"hidden_units": 8}, {"heredity": "weak", "n_rounds": 2}])
def test_ratings_and_the_other_forms_find_them_too(search):
    X, logits, rng = planted(0)
    y = logits + rng.normal(size=len(X))
    model = fit(X, y, estimator=RatingRegressor, max_epochs=20, search=search)
    assert recovery(model) > 0.97
    assert {record["slot"] for record in model.search_history_} == {"gate+interaction"}
    assert len(model.search_history_) == 20  # the rounds share them


def context(**changes):
    options = {
        "field_names": ("a", "user", "b", "x"),
        "n_ids": (5, 4, 6),
        "n_numeric": 1,
        "embedding_dim": 3,
        "generator": torch.Generator().manual_seed(0),
        "embedding_init": 1.0,
    }
    return BuildContext(**{**options, **changes})


def rows(n=60, seed=1):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, k, n) for k in (5, 3, 6)], 1).astype(np.int32)
    numeric = np.stack([rng.normal(size=n), np.zeros(n)], 1).astype(np.float32)
    weight = rng.uniform(0.5, 1.5, n).astype(np.float32)
    y = rng.integers(0, 2, n).astype(np.float32)
    none = np.zeros((n, 0), np.int32)
    return EncodedTensors(*(torch.from_numpy(a) for a in (ids, numeric, none, y, weight)))


def built(heredity="strong", hidden_units=0, seed=3):
    """A network around searched parts, its gates drawn at random, its weights not small."""
    c = context()
    parts = BPFIS("user", heredity, hidden_units=hidden_units).build(c)
    network = FM().build(c, parts)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(generator=generator)
        gates = parts["gate"].probabilities
        gates.uniform_(generator=generator)
        gates[:, 1] = 1.0
    return c, network, parts


def reference_logits(network, data, p, heredity, held=None, hidden=False):
    """Logits of a factorization machine with personal gates, by loops over pairs."""
    inputs = Inputs(data.ids, data.numeric, data.sequences)
    e = network.embedding(inputs).detach().double().numpy()
    own = super(type(network.linear), network.linear).forward(inputs).detach().double().numpy()
    p = p.double().numpy()[data.ids[:, 1].numpy()]
    s = p.copy()
    if held is not None:
        s[:, held[0]] = held[1]
    pairs = network.interaction
    mean = pairs.mean.detach().double().numpy()
    total = float(network.linear.bias.detach()) + (s[:, :, None] * own).sum((1, 2))
    for i in range(4):
        for j in range(i + 1, 4):
            v = e[:, i] * e[:, j]
            if hidden:
                v = np.maximum(v @ pairs.hidden.weight.detach().double().numpy().T, 0)
            share = s[:, i] * s[:, j]
            if heredity == "weak":
                one = s[:, i] * (1 - s[:, j]) + s[:, j] * (1 - s[:, i])
                share = share + one * p[:, i] * p[:, j]
            total += share * (v @ mean)
    return total


@pytest.mark.parametrize("heredity", ["strong", "weak"])
@pytest.mark.parametrize("hidden_units", [0, 5])
def test_search_and_final_network_agree_with_numpy(heredity, hidden_units):
    c, network, parts = built(heredity, hidden_units)
    data = rows()
    p = parts["gate"].probabilities
    expected = reference_logits(network, data, p, heredity, hidden=bool(hidden_units))
    out = network.eval()(**data.inputs)[:, 0]
    np.testing.assert_allclose(out.detach(), expected, rtol=1e-4, atol=1e-4)
    # What is stored is rounded to a byte; with such gates both networks are the same.
    p.copy_((p * 255).round() / 255)
    method = BPFIS("user", heredity, hidden_units=hidden_units)
    architecture = method.derive(parts, c)
    method.check(architecture, c)
    concrete = FM().build(c, method.realise(architecture, c))
    concrete.load_state_dict(network.state_dict(), strict=False)
    expected = network(**data.inputs)
    torch.testing.assert_close(concrete.eval()(**data.inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("heredity", ["strong", "weak"])
@pytest.mark.parametrize("hidden_units", [0, 5])
def test_the_sum_of_all_pairs_is_told_without_them(heredity, hidden_units):
    c, network, parts = built(heredity, hidden_units)
    method = BPFIS("user", heredity, hidden_units=hidden_units)
    concrete = FM().build(c, method.realise(method.derive(parts, c), c)).eval()
    concrete.load_state_dict(network.state_dict(), strict=False)
    data = rows()
    slopes = []
    for told in (True, False):
        if not told:
            concrete.interaction.total = None
        out = concrete(**data.inputs)
        slopes.append([out, *torch.autograd.grad(out.square().sum(), concrete.interaction.mean)])
        slopes[-1] += torch.autograd.grad(concrete(**data.inputs).sum(), concrete.embedding.weight)
    for own, other in zip(*slopes, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_weights_of_pairs_are_remembered_where_there_is_room(monkeypatch):
    found = []
    for room in (0, 10**6):
        monkeypatch.setattr(_user_gates, "MEMORY_CELLS", room)
        monkeypatch.setattr(_user_gates, "PASS_ROWS", 16)
        _, network, parts = built()
        calls, scores = [], parts["interaction"].scores
        parts["interaction"].scores = lambda *a, s=scores, c=calls: c.append(1) or s(*a)
        update_gates(network, parts["gate"], BinaryLogLoss(), rows(), 0.5, 1)
        assert len(calls) == (4 if room else 4 * 2 * 3)  # batches, gates held shut and open, fields
        assert parts["interaction"].memory is None
        found.append(parts["gate"].probabilities)
    assert torch.equal(*found)


@pytest.mark.parametrize("heredity", ["strong", "weak"])
def test_training_draws_gates_row_by_row_whose_mean_is_the_final_network(heredity):
    _, network, parts = built(heredity)
    data = rows(6)
    often = data.select(torch.arange(6).repeat(20_000))
    with torch.no_grad():
        parts["interaction"].spread.zero_()
        draws = network.train()(**often.inputs)[:, 0].double().view(-1, 6)
    expected = reference_logits(network, data, parts["gate"].probabilities, heredity)
    error = draws.std(0) / len(draws) ** 0.5
    assert (np.abs(draws.mean(0).numpy() - expected) < 4.5 * error.numpy()).all()
    gates = parts["gate"].seen[2]
    assert set(gates.unique().tolist()) == {0.0, 1.0} and (gates[:, 1] == 1).all()
    same = rows(200)
    same.ids[:] = same.ids[:1]
    network(**same.inputs)
    assert 0.0 < parts["gate"].seen[2][:, 0].mean() < 1.0  # not one draw for the whole batch


def test_the_penalty_is_the_divergence_of_normal_weights():
    _, network, parts = built()
    network.train()(**rows().inputs)
    pairs = parts["interaction"]
    e = parts["gate"].seen[0].detach().double()
    left, right = pair_index(4)
    products = e[:, left] * e[:, right]
    mean = products @ pairs.mean.detach().double()
    log_variance = products @ pairs.spread.detach().double() - 4
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    assert pairs.penalty().item() == pytest.approx(0.001 * divergence.mean().item(), rel=1e-4)
    assert pairs.penalty().requires_grad


@pytest.mark.parametrize("loss", [BinaryLogLoss(), SquaredError()])
def test_an_update_is_the_posterior_odds_of_each_gate(loss):
    _, network, parts = built("weak")
    data = rows()
    gates = parts["gate"]
    p = gates.probabilities.clone()
    users, y, weight = (t.double().numpy() for t in (data.ids[:, 1], data.y, data.weight))

    def minus_log_likelihood(held):
        logits = reference_logits(network, data, p, "weak", held)
        if isinstance(loss, SquaredError):
            return weight * (logits - y) ** 2 / (2 * variance)
        return -weight * np.log(np.where(y == 1, expit(logits), expit(-logits)))

    residuals = reference_logits(network, data, p, "weak") - y
    variance = (weight * residuals**2).mean()
    for field in (0, 2, 3):
        gain = minus_log_likelihood((field, 0.0)) - minus_log_likelihood((field, 1.0))
        for user in range(3):
            odds = gain[users == user].sum() + np.log(0.3 / 0.7)
            p[user, field] = expit(odds)
        p[3, field] = p[:3, field].mean()  # a user without rows
    network.train()
    update_gates(network, gates, loss, data, 0.3, 1)
    torch.testing.assert_close(gates.probabilities, p, rtol=1e-3, atol=1e-4)
    assert network.training and gates.forced is None


def test_pair_gates_are_the_expected_shares():
    p = np.array([[0.5, 0.5, 1.0], [0.2, 0.9, 0.0]])
    np.testing.assert_allclose(pair_gates(p, "strong"), [[0.25, 0.5, 0.5], [0.18, 0, 0]])
    np.testing.assert_allclose(  # .375, not the .4375 of a product of expectations
        pair_gates(p, "weak"), [[0.375, 0.75, 0.75], [0.18 * (1 + 1.1 - 0.36), 0, 0]]
    )


def test_gates_are_told_by_user_and_column():
    X, logits, rng = planted(0, 500, n_users=5)
    y = (rng.random(len(X)) < expit(logits)).astype(int)
    model = fit(X, y, max_epochs=2)
    gates, pairs = user_gates(model), user_interactions(model)
    assert gates.shape == (5, 5) and pairs.shape == (5, 10) and gates.index.name == "user"
    assert set(gates.index) == set(X["user"]) and list(gates.columns) == list(X.columns)
    assert (gates["user"] == 1).all() and gates["f0"].between(0, 1).all()
    assert gates["f0"].nunique() > 1
    np.testing.assert_allclose(pairs["f0", "f1"], gates["f0"] * gates["f1"])
    assert model.field_scores_["f0"] == pytest.approx(gates["f0"].mean())
    assert len(model.interactions_) == 10
    plain = CTRClassifier(random_state=0, **OPTIONS).fit(X, y)
    with pytest.raises(AttributeError, match="has no gates by user"):
        user_gates(plain)


def test_unknown_users_have_the_mean_gates_and_odd_tables_are_taken():
    X, logits, rng = planted(0, 600, n_users=8)
    y = (rng.random(len(X)) < expit(logits)).astype(int)
    X["constant"], X["number"] = "c", rng.normal(size=len(X))
    X.loc[::7, ["user", "f1", "number"]] = None
    model = fit(X, y, max_epochs=2, batch_size=599)  # a last batch of one row
    levels = levels_from_text(model.architecture_["gate"]["probabilities"])
    user = model.architecture_["gate"]["user"]
    counts = np.array([(X["user"].isna()).sum(), 0, *[1] * 8])
    np.testing.assert_allclose(levels[1], levels[counts > 0].mean(0), atol=1.01)
    assert user == 4 and levels.shape == (10, 7)
    odd = X[:3].copy()
    odd.loc[0, "user"], odd.loc[1, "f0"] = "nobody", "v99"
    assert np.isfinite(model.predict_proba(odd)).all()
    np.testing.assert_array_equal(model.predict_proba(odd[:1]), model.predict_proba(odd)[:1])
    three = fit(X, np.arange(len(X)) % 3, max_epochs=1)
    assert three.predict_proba(odd).shape == (3, 3)
    assert np.isfinite(fit(X[:40], y[:40], max_epochs=1, members=2).predict_proba(odd)).all()


def test_each_round_starts_anew_with_the_gates_of_the_last(monkeypatch):
    seen = []
    real = _bpfis.update_gates

    def spy(network, gates, *args):
        start = (gates.probabilities.clone(), network.interaction.mean.detach().clone())
        real(network, gates, *args)
        seen.append((*start, gates.probabilities.clone()))

    monkeypatch.setattr(_bpfis, "update_gates", spy)
    X, logits, rng = planted(0, 500, n_users=5)
    y = (rng.random(len(X)) < expit(logits)).astype(int)
    model = fit(X, y, max_epochs=4, search={"n_rounds": 2, "prior": 0.4})
    assert len(seen) == 2
    assert seen[0][0].unique().tolist() == pytest.approx([0.4, 1.0])
    assert torch.equal(seen[0][2], seen[1][0]) and not torch.equal(seen[1][0], seen[1][2])
    levels = levels_from_text(model.architecture_["gate"]["probabilities"])
    np.testing.assert_array_equal(levels, (seen[1][2] * 255).round())
    with pytest.raises(ValueError, match="n_rounds=3 needs as many epochs of the search"):
        fit(X, y, max_epochs=2, search={"n_rounds": 3})


@pytest.mark.parametrize(
    "search, message",
    [
        ({"user_column": "x0"}, r"user_column='x0' must be a categorical column.*\['f0', 'f1'"),
        ({"user_column": "who"}, "user_column='who' must be a categorical column"),
        ({"user_column": 3}, "user_column=3 must be a categorical column"),
        ({"user_column": -1}, "'user_column' parameter of BPFIS"),
        ({"prior": 1.0}, "'prior' parameter of BPFIS"),
        ({"heredity": "none"}, "'heredity' parameter of BPFIS"),
    ],
)
def test_bad_parameters_are_named(search, message):
    X, y, _ = make_ctr(100, n_fields=3, pairs=1, n_numeric=1, random_state=0)
    with pytest.raises(ValueError, match=message):
        fit(X, y, search=search)
    with pytest.raises(ValueError, match="at least 2 fields, the table has 1"):
        fit(X[["f0"]], y, search={"user_column": "f0"})


def test_bad_architectures_are_refused():
    c, _, parts = built()
    method = BPFIS("user")
    good = method.derive(parts, c)
    method.check(good, c)
    gate, pairs = good["gate"], good["interaction"]
    text = gate["probabilities"]
    for wrong, message in (
        ({**good, "gate": {**gate, "user": 3}}, "user must be a categorical field below 3"),
        ({**good, "gate": {**gate, "user": True}}, "user must be a categorical field"),
        ({**good, "gate": {**gate, "user": 0}}, "5 users and 4 fields"),
        ({**good, "gate": {**gate, "probabilities": None}}, "must be a dict of shape"),
        ({**good, "gate": {**gate, "probabilities": {**text, "shape": [4, 5]}}}, "need 20 bytes"),
        ({**good, "gate": {**gate, "probabilities": {**text, "shape": [-4, -4]}}}, "of shape, two"),
        ({**good, "interaction": {**pairs, "interactions": [[0, 1]]}}, "must be all pairs of 4"),
        ({**good, "interaction": {**pairs, "interactions": [[0, 9]]}}, "rising fields below 4"),
    ):
        with pytest.raises(ValueError, match=message):
            method.check(wrong, c)
    levels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(levels_from_text(levels_to_text(levels)), levels)


def test_without_gates_in_the_batch_every_pair_counts():
    c = context()
    pairs = PersonalPairs(c, 0, "weak")
    data = rows(5)
    e = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    left, right = pair_index(4)
    out = pairs(e, Inputs(data.ids, data.numeric, data.sequences))
    torch.testing.assert_close(out, (e[:, left] * e[:, right]).sum(2))
