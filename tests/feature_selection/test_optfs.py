"""OptFS: formulas against numpy, planted values, the rewind, what tables and files then hold."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from searching import searching

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import _search_phase
from sklearn_autorec.estimators import _stages
from sklearn_autorec.feature_selection import OptFS
from sklearn_autorec.feature_selection._gates._optfs import ValueGates
from sklearn_autorec.networks import DeepFM, MLPNetwork
from sklearn_autorec.nn import BuildContext, Inputs, mask_from_text
from sklearn_autorec.serving import load, save

SIZES = (5, 3, 7)


def gates(penalty=0.2, sizes=SIZES, n_numeric=1, sequences=((4, 2),)):
    names = tuple(map(str, range(len(sizes) + n_numeric + len(sequences))))
    return ValueGates(
        BuildContext(names, sizes, n_numeric, sequences, embedding_dim=2), penalty, 2000.0, 2.0, 0.2
    )


def test_factors_and_penalty_agree_with_numpy():
    module, rng = gates(), np.random.default_rng(0)
    logit = rng.normal(size=17)  # 15 values, one number, one list
    with torch.no_grad():
        module.logit.copy_(torch.tensor(logit, dtype=torch.float32)[:, None])
    ids = np.column_stack([rng.integers(0, k, 20) for k in SIZES])
    inputs = Inputs(
        torch.tensor(ids, dtype=torch.int32),
        torch.zeros(20, 2),
        torch.zeros(20, 2, dtype=torch.int32),
    )
    # Values other than missing and unknown count one, a column with one gate as much as the average
    # column has values.
    weight = np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 5, 5], float)
    for t in (0.0, 0.1, 0.44, 1.0):
        module.set_progress(t)
        open_ = expit(2000.0 ** max((t - 0.2) / 0.8, 0) * logit)
        rows = np.concatenate([open_[ids + [0, 5, 8]], np.tile(open_[15:], (20, 1))], 1)
        expected = rows / expit(0.5)
        factors = module(torch.zeros(20, 5, 2), inputs)
        np.testing.assert_allclose(factors.detach().numpy(), expected, rtol=2e-3, atol=1e-6)
        penalty = 0.2 * (open_ * weight).sum() / weight.sum()
        assert module.penalty().item() == pytest.approx(penalty, rel=1e-3, abs=1e-6)


def test_gates_start_at_one_and_the_penalty_does_not_know_the_corpus():
    for sizes in ((4,), (50, 7), (3000, 2, 200)):
        module = gates(sizes=sizes, n_numeric=0, sequences=())
        ids = torch.zeros(3, len(sizes), dtype=torch.int32)
        factors = module(
            torch.zeros(3, len(sizes), 2), Inputs(ids, torch.zeros(3, 0), torch.zeros(3, 0))
        )
        torch.testing.assert_close(factors.detach(), torch.ones(3, len(sizes)))
        assert module.penalty().item() == pytest.approx(0.2 * expit(0.5), rel=1e-5)
    assert gates(sizes=(2, 2), n_numeric=0, sequences=()).penalty().item() == 0  # no values at all


def planted_values(seed, n=16_000):
    """A Zipf field and a uniform one with 12 values of effect 1.5 and -1.5 each, and a field of
    noise.
    """
    rng = np.random.default_rng(seed)
    X, logit, informative = {}, np.full(n, -0.5), {}
    for name, k in (("zipf", 100), ("uniform", 60), ("noise", 100)):
        p = 1 / np.arange(1, k + 1) ** (1.0 if name == "zipf" else 0.0)
        v, effect = rng.choice(k, n, p=p / p.sum()), np.zeros(k)
        if name != "noise":
            effect[rng.choice(30, 12, replace=False)] = rng.choice([-1.5, 1.5], 12)
        logit += effect[v]
        X[name], informative[name] = [f"v{i}" for i in v], {f"v{i}" for i in np.flatnonzero(effect)}
    return pd.DataFrame(X), (rng.random(n) < expit(logit)).astype(int), informative


PLAIN = {"early_stopping": False, "device": "cpu"}


def shares_kept(seed, shuffled=False, network="fm", n=16_000, **options):
    """Shares of informative and of other values that are kept."""
    X, y, informative = planted_values(seed, n)
    y = np.random.default_rng(seed).permutation(y) if shuffled else y
    model = searching(
        OptFS(**options), seed, network=network, lr=2e-3, search_epochs=10, **PLAIN
    ).fit(X, y)
    kept = {column: set(values) for column, values in model.selected_values_.items()}
    kept = {column: kept.get(column, set()) for column in X}
    counts = {column: X[column].value_counts() for column in X}
    others = {
        column: set(counts[column].index[counts[column] >= 20]) - informative[column]
        for column in X
    }
    return (
        sum(len(kept[c] & informative[c]) for c in X) / 24,
        sum(len(kept[c] & others[c]) for c in X) / sum(map(len, others.values())),
    )


def test_planted_values_are_kept_and_others_are_not():
    shares = np.array(
        [shares_kept(seed, penalty=0.25, network=MLPNetwork((32,))) for seed in range(5)]
    )
    assert (shares[:, 0] >= 0.95).all() and (shares[:, 1] <= 0.1).all()
    informative, others = shares_kept(0, shuffled=True, penalty=0.25, network=MLPNetwork((32,)))
    assert informative <= 0.5


def frequent_kept(seed, **options):
    """Share of the values of at least 100 rows that are kept, by an FM that learns pairs."""
    X, y, _ = make_ctr(12_000, n_fields=8, cardinality=50, zipf=0.5, pairs=4, random_state=seed)
    model = searching(OptFS(**options), seed, network="fm", search_epochs=4, **PLAIN).fit(X, y)
    kept = {column: set(values) for column, values in model.selected_values_.items()}
    counts = [(column, *pair) for column in X for pair in X[column].value_counts().items()]
    return np.mean(
        [value in kept.get(column, ()) for column, value, count in counts if count >= 100]
    )


def test_without_a_penalty_nearly_all_frequent_values_stay():
    assert min(frequent_kept(seed, penalty=0.0) for seed in range(3)) >= 0.98
    # The control: gates that run ahead of the weights are closed by chance alone.
    assert frequent_kept(0, penalty=0.0, travel=10.0, warmup=0.0) < 0.92


def test_the_penalty_alone_closes_a_gate_whatever_the_number_of_values():
    """A value that no row holds has the gradient of the penalty only, and it falls with the number
    of values.
    """
    for sizes in ((20,), (50_000,)):
        module = gates(sizes=sizes, n_numeric=0, sequences=())
        optimizer = module.arch_optimizer(50)
        for _ in range(50):
            optimizer.zero_grad()
            module.penalty().backward()
            optimizer.step()
        logit = module.logit.detach()[:, 0]
        # The whole way of 2, but for what the moments lag behind a gradient that falls as the gate
        # closes.
        assert (logit[2:] - (0.5 - 2.0)).abs().max() < 0.1
        assert (logit[:2] == 0.5).all()  # missing and unknown


def test_gates_rest_during_the_warm_up():
    module = gates()
    assert module.arch_schedule.warmup == 0.2 and not module.arch_schedule.bilevel
    module.set_progress(0.2)
    assert module.temperature == 1.0
    X, y, _ = planted_values(0, 2000)
    model = CTRClassifier(
        network="fm", search=OptFS(50.0, warmup=0.5), search_epochs=4, max_epochs=1, random_state=0
    )
    shares = [record["kept_share"] for record in model.fit(X, y).search_history_]
    assert shares[0] == pytest.approx(1.0) and shares[-1] < 0.1


def test_a_larger_penalty_keeps_fewer_values():
    shares = [sum(shares_kept(0, penalty=p, n=6000)) for p in (0.0, 0.05, 2.0)]
    assert shares[0] > 1.8 and shares[0] > shares[1] > shares[2]


def test_gates_have_decided_when_the_search_ends(monkeypatch):
    ends = []
    real = OptFS.derive

    def spy(self, module, context):
        ends.append(module.gates().detach())
        return real(self, module, context)

    monkeypatch.setattr(OptFS, "derive", spy)
    shares_kept(0, n=6000)
    undecided = (ends[0] > 1e-3) & (ends[0] < 1 - 1e-3)
    assert undecided.float().mean() < 0.02


@pytest.mark.parametrize("retrain", ["rewind", "keep", "scratch"])
def test_final_training_starts_from_the_first_weights(retrain, monkeypatch):
    starts, states, networks = [], [], []
    train, carry = _stages.train, _search_phase._carry_states

    def spy_train(net, *args, **kwargs):
        starts.append({name: t.clone() for name, t in net.module.state_dict().items()})
        networks.append(net.module)
        return train(net, *args, **kwargs)

    def spy_carry(problem, *args):
        states.append({"rewind": dict(problem.initial_state), "keep": dict(problem.final_state)})
        carry(problem, *args)

    monkeypatch.setattr(_stages, "train", spy_train)
    monkeypatch.setattr(_search_phase, "_carry_states", spy_carry)
    X, y, _ = make_ctr(
        3000, n_fields=4, informative_fields=[1, 3], pairs=[], main_effect=2, random_state=0
    )
    model = CTRClassifier(
        network=DeepFM((8,)),
        search=OptFS(0.5, retrain=retrain),
        lr=5e-3,
        max_epochs=3,
        random_state=0,
        device="cpu",
    ).fit(X, y)
    assert 0 < len(model.selected_fields_) < 4
    start, state = starts[0], states[0]
    encoder, selection = model.encoder_, networks[0].selection
    rows = selection.table_rows(BuildContext(tuple("abcd"), tuple(encoder.n_ids_)))
    assert len(rows) < sum(encoder.n_ids_)
    width = model.architecture_["embedding_dim"]
    columns = np.concatenate([np.arange(f * width, (f + 1) * width) for f in selection.fields])
    for source in ("rewind", "keep"):
        same = retrain == source
        assert (
            torch.equal(start["embedding.weight"], state[source]["embedding.weight"][rows]) == same
        )
        for name in state[source]:
            # First layer.
            if name.endswith("weight") and state[source][name].shape == (8, 4 * width):
                assert torch.equal(start[name], state[source][name][:, columns]) == same
    # Gates that the search left open multiplied by 1 / sigmoid(1/2), which weights that are kept
    # still need.
    gate = networks[0].gate
    assert (gate is None) == (retrain != "keep")
    if gate is not None:
        torch.testing.assert_close(
            gate.factors, torch.full((1, len(selection.fields)), 1 / float(expit(0.5)))
        )


def test_pruned_values_are_unknown_ones_and_take_no_room(tmp_path):
    X, y, _ = planted_values(0, 6000)
    options = {
        "network": "fm",
        "embedding_dim": 8,
        "lr": 5e-3,
        "max_epochs": 4,
        "random_state": 0,
        "device": "cpu",
    }
    whole = CTRClassifier(**options).fit(X, y)
    model = CTRClassifier(search=OptFS(0.3), **options).fit(X, y)
    kept, encoder = model.selected_values_, model.encoder_
    assert set(kept) == set(model.selected_fields_)
    n_rows = sum(len(values) + 2 for values in kept.values())
    assert model.net_.module_.embedding.weight.shape == (n_rows, 8) and n_rows < 150
    mask = mask_from_text(model.architecture_["gate"]["values"])[:, 0]
    assert mask.shape == (sum(encoder.n_ids_),)
    # Missing and unknown values.
    assert all(own[:2].all() for own in np.split(mask, np.cumsum(encoder.n_ids_)[:-1]))
    for column, values in kept.items():
        pruned = sorted(set(X[column]) - set(values))[0]
        one, other = X[:50].assign(**{column: pruned}), X[:50].assign(**{column: "never seen"})
        np.testing.assert_array_equal(model.predict_proba(one), model.predict_proba(other))
        assert (
            model.predict_proba(X[:50].assign(**{column: values[0]})) != model.predict_proba(one)
        ).any()
    scores = model.field_scores_
    for column, values in kept.items():
        assert scores[column] == pytest.approx(X[column].isin(values).mean())
    for name, fitted in (("whole", whole), ("model", model)):
        save(fitted, tmp_path / name)
    assert (tmp_path / "model").stat().st_size < 0.8 * (tmp_path / "whole").stat().st_size
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
    assert model.nbytes_["total"] < 0.5 * whole.nbytes_["total"]


def test_files_with_wrong_values_are_refused(tmp_path):
    X, y, _ = planted_values(0, 1000)
    model = CTRClassifier(
        network="fm", search=OptFS(), max_epochs=1, random_state=0, device="cpu"
    ).fit(X, y)
    good = model._architecture["gate"]["values"]
    for wrong in (
        {"shape": [3, 1], "bits": "AA=="},
        {"shape": [10**12, 0], "bits": ""},
        {"shape": good["shape"]},
        None,
        5,
    ):
        model._architecture["gate"]["values"] = wrong
        with pytest.raises(ValueError, match="values must hold|a mask"):
            save(model, tmp_path / "m")


def test_without_gates_of_values_there_are_no_selected_values():
    X, y, _ = planted_values(0, 300)
    model = CTRClassifier(network="fm", max_epochs=1).fit(X, y)
    with pytest.raises(
        AttributeError, match="does not choose values; use for instance search=OptFS"
    ):
        _ = model.selected_values_


def test_wrong_parameters_are_named():
    X, y, _ = make_ctr(100, n_fields=3, pairs=[], random_state=0)
    for options in (
        {"penalty": -1.0},
        {"gamma": 0.5},
        {"travel": 0.0},
        {"warmup": 1.0},
        {"retrain": "later"},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            CTRClassifier(network="fm", search=OptFS(**options), max_epochs=1).fit(X, y)
