"""Several searches in one fit, architectures that travel as JSON, and training that goes on."""

import json

import numpy as np
import pytest
import torch
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import PEP, AutoDim, EqualSize, MagnitudePruning, RandomSizes
from sklearn_autorec.engine import _arch_turns, _net, _search_phase
from sklearn_autorec.estimators import _stages
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.nn import MaskedEmbedding, MixedEmbedding, mask_from_text, numeric_rows


@pytest.fixture(scope="module")
def table():
    return mixed_clicks(1200, cardinality=10, zipf=0.5, pairs=2)


PARAMS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.01,
    "max_epochs": 2,
    "search_epochs": 3,
    "batch_size": 128,
    "random_state": 0,
}


def fit(table, search, **options):
    return CTRClassifier(search=search, **{**PARAMS, **options}).fit(*table)


@pytest.fixture
def problems(monkeypatch):
    """The search problems of the fits of a test, in order."""
    made = []
    real = _search_phase.SearchProblem

    def spy(*args, **kwargs):
        made.append(real(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(_search_phase, "SearchProblem", spy)
    return made


def test_the_second_search_stands_on_what_the_first_found(table, problems):
    model = fit(table, [AutoDim(), AutoFIS()])
    first, second = problems
    assert first.parts() == {} and (first.slots, second.slots) == (("embedding",), ("interaction",))
    widths = list(model.embedding_sizes_.values())
    part = second.parts()["embedding"]
    assert isinstance(part, MixedEmbedding) and set(widths) != {8}
    for w, searched in zip(part.distinct, part.tables, strict=True):
        fields = [f for f, width in enumerate(widths) if width == w]
        names = [model.encoder_.field_names_[f] for f in fields]
        assert searched.weight.shape[1] == w and set(names) == {
            n for n, v in model.embedding_sizes_.items() if v == w
        }
    # The network that the second search trained had exactly these tables.
    expected = {f"embedding.{name}": t.shape for name, t in part.state_dict().items()}
    found = {
        name: t.shape for name, t in second.initial_state.items() if name.startswith("embedding.")
    }
    assert found == expected
    final = {
        n: t.shape for n, t in model.net_.module_.state_dict().items() if n.startswith("embedding.")
    }
    assert final == expected
    assert [r["slot"] for r in model.search_history_] == ["embedding"] * 3 + ["interaction"] * 3
    assert second.parts()["embedding"] is not part  # each call makes fresh ones


def test_joint_search_is_one_run_with_rows_of_its_own_for_the_bilevel_part(
    table, problems, monkeypatch
):
    weight_rows, arch_rows, autofis_steps = [], [], []
    real_step, real_first = _net.FieldNet.train_step_single, _arch_turns.first_order_gradient
    X, y = table
    X = X.assign(row=np.arange(len(X)) / len(X))  # a number that says which row it is

    def rows(batch):
        return batch.numeric[:, list(X.select_dtypes("number")).index("row")].tolist()

    def spy_step(self, batch, **kwargs):
        (weight_rows if self.arch_turns_ else []).extend(rows(batch[0]))
        return real_step(self, batch, **kwargs)

    def spy_first(objective, batch, arch, *rest):
        arch_rows.extend(rows(batch))
        # AutoDim's weights alone, four widths for seven fields.
        assert [p.shape for p in arch] == [(7, 4)]
        return real_first(objective, batch, arch, *rest)

    real_after = _net.GRDA.step if hasattr(_net, "GRDA") else None
    assert real_after is None
    from sklearn_autorec.engine import GRDA

    real_grda = GRDA.step

    def spy_grda(self, closure=None):
        autofis_steps.append(1)
        return real_grda(self, closure)

    monkeypatch.setattr(_net.FieldNet, "train_step_single", spy_step)
    monkeypatch.setattr(_arch_turns, "first_order_gradient", spy_first)
    monkeypatch.setattr(GRDA, "step", spy_grda)
    model = fit(
        (X, y), [AutoDim(arch_every=1, warmup=0.0, search_fraction=0.25), AutoFIS()], joint=True
    )
    (problem,) = problems
    assert problem.slots == ("embedding", "interaction") and len(model.search_history_) == 3
    assert {"widths", "weights"} <= set(model.architecture_["embedding"])
    assert {"interactions", "scores"} <= set(model.architecture_["interaction"])
    assert {"mean_width", "open_gates"} <= set(model.search_history_[0])
    assert len(set(weight_rows)) == 720 and len(set(arch_rows)) == 300
    assert not set(weight_rows) & set(arch_rows)
    # A fifth of the weights' rows judges what AutoFIS keeps. One step of the gates for each batch
    # of the weights: 720 rows, by 128.
    assert len(autofis_steps) == 3 * 6


def test_methods_with_a_search_of_their_own_cannot_search_jointly(table):
    with pytest.raises(
        ValueError,
        match=r"joint=True needs methods that search by gradients; \[RandomInteractions\(",
    ):
        fit(table, [AutoDim(), RandomInteractions()], joint=True)
    with pytest.raises(ValueError, match="Leave joint=False"):
        fit(table, [EqualSize(), AutoFIS()], joint=True)
    with pytest.raises(ValueError, match="two methods for one slot"):
        fit(table, [AutoDim(), PEP()])
    model = fit(table, [EqualSize(4), RandomInteractions(n_interactions=2)])
    assert set(model.embedding_sizes_.values()) == {4} and len(model.interactions_) == 2


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_rewinding_holds_for_the_slot_of_its_method(table, problems, joint, order, monkeypatch):
    starts = []
    real = _stages.train

    def spy(net, *args, **kwargs):
        module = net.module.embedding
        assert isinstance(module, MaskedEmbedding)
        starts.append({name: t.detach().clone() for name, t in net.module.state_dict().items()})
        return real(net, *args, **kwargs)

    monkeypatch.setattr(_stages, "train", spy)
    methods = [PEP(0.5), AutoFIS()][::order]
    fit(table, methods, joint=joint)
    problem = problems[0] if joint else next(p for p in problems if p.slots == ("embedding",))
    (start,) = starts
    for name in ("embedding.weight", "embedding.numeric_weight"):
        assert torch.equal(start[name], problem.initial_state[name])
        assert not torch.equal(start[name], problem.final_state[name])
    if not joint:
        assert len(problems) == 2


METHODS = {
    "autodim": AutoDim(),
    "pep": PEP(0.5),
    "pep-scratch": PEP(0.5, retrain="scratch"),
    "magnitude": MagnitudePruning(0.5),
    "equal": EqualSize(),
    "random": RandomSizes(),
    "autodim+autofis": [AutoDim(), AutoFIS(orders=(2, 3))],
    "pep+autofis": [PEP(0.5), AutoFIS()],
    "pep-scratch+autofis": [PEP(0.5, retrain="scratch"), AutoFIS()],
    "nothing": None,
}
# These train the found network from new weights, so that it does not matter whether the
# architecture was given or found.
FROM_SCRATCH = {
    "autodim",
    "pep-scratch",
    "equal",
    "random",
    "autodim+autofis",
    "pep-scratch+autofis",
    "nothing",
}


@pytest.mark.parametrize("estimator", [CTRClassifier, RatingRegressor])
@pytest.mark.parametrize("name", METHODS)
def test_architectures_travel_as_json(table, name, estimator):
    X, y = table
    y = y if estimator is CTRClassifier else 2.0 * y + X["x0"].fillna(0).to_numpy()
    model = estimator(search=METHODS[name], **PARAMS).fit(X, y)
    text = json.dumps(model.architecture_)
    assert json.loads(text) == model.architecture_
    params = {k: v for k, v in PARAMS.items() if k not in ("network", "embedding_dim")}
    again = estimator.from_architecture(json.loads(text), **params)
    assert not hasattr(again, "net_")
    again.fit(X, y)
    assert again.search_history_ == []
    assert again.architecture_ == model.architecture_
    assert (again.n_parameters_, again.nbytes_) == (model.n_parameters_, model.nbytes_)
    assert again.compression_ratio_ == model.compression_ratio_
    if METHODS[name] is not None:
        for a, b in zip(
            model.embedding_sizes_.values(), again.embedding_sizes_.values(), strict=True
        ):
            assert np.array_equal(a, b)
    if "autofis" in name:
        assert again.interactions_ == model.interactions_
        assert again.interaction_scores_ == model.interaction_scores_
    predict = "decision_function" if estimator is CTRClassifier else "predict"
    same = np.array_equal(getattr(model, predict)(X), getattr(again, predict)(X))
    assert same == (name in FROM_SCRATCH)


def changed(found, slot, **changes):
    return {**found, slot: {**found[slot], **changes}}


def test_wrong_architectures_name_what_is_wrong(table):
    widths = fit(table, [AutoDim(), AutoFIS()]).architecture_
    mask = fit(table, PEP(0.5)).architecture_
    cases = [
        ({}, "must be the architecture_ of a fitted model"),
        ([1], "must be the architecture_ of a fitted model"),
        (
            {**widths, "network": {"network": "Perceptron", "params": {}}},
            "network class 'Perceptron' is not known",
        ),
        (
            {**widths, "network": {"network": "FM", "params": {"depth": 2}}},
            "network 'FM' cannot be made of",
        ),
        (changed(widths, "embedding", method="AutoSize"), "'method' is one of"),
        (changed(widths, "embedding", params={"size": 2}), "AutoDim cannot be made of"),
        (
            changed(widths, "embedding", widths=[1, 2]),
            "widths must hold 6 whole numbers between 0 and embedding_dim=8",
        ),
        (
            changed(widths, "embedding", widths=[1, 2, 1, 2, 1, 9]),
            "widths must hold 6 whole numbers",
        ),
        (
            changed(widths, "embedding", widths=[1, 2, 1, 2, 1, 0.5]),
            "widths must hold 6 whole numbers",
        ),
        (changed(widths, "embedding", widths=None), "widths must hold 6 whole numbers"),
        (changed(widths, "interaction", interactions=[[0, 6]]), "rising fields below 6"),
        (changed(widths, "interaction", interactions=[[2, 1]]), "rising fields below 6"),
        (changed(mask, "embedding", mask=None), "mask must be a dict of shape"),
        (
            changed(mask, "embedding", mask={"shape": [3], "bits": ""}),
            "mask must be a dict of shape",
        ),
        (
            changed(mask, "embedding", mask={"shape": [8, 8], "bits": "AA=="}),
            "needs 8 bytes, got 1",
        ),
        (
            {**mask, "embedding_dim": 4},
            r"the mask has shape \(\d+, 8\), the embedding table has \(\d+, 4\)",
        ),
    ]
    for slot, key in (("embedding", "widths"), ("interaction", "interactions")):
        lacking = {**widths, slot: {k: v for k, v in widths[slot].items() if k != key}}
        cases.append((lacking, key))
    lacking = {k: v for k, v in mask["embedding"].items() if k != "mask"}
    cases.append(({**mask, "embedding": lacking}, "mask must be a dict of shape"))
    for architecture, message in cases:
        with pytest.raises(ValueError, match=message):
            CTRClassifier.from_architecture(architecture, max_epochs=1).fit(*table)


def test_a_mask_for_other_data_is_refused(table):
    X, y = table
    found = fit(table, PEP(0.5)).architecture_
    other = X.assign(f0=[f"u{i % 50}" for i in range(len(X))])
    with pytest.raises(ValueError, match=r"the mask has shape .*, the embedding table has"):
        CTRClassifier.from_architecture(found, max_epochs=1).fit(other, y)


@pytest.mark.parametrize("name", ["autodim", "pep", "equal", "autodim+autofis", "nothing"])
def test_sizes_add_up(table, name):
    model = fit(table, METHODS[name])
    parts = model.nbytes_
    assert parts["total"] == sum(n for kind, n in parts.items() if kind != "total")
    assert parts["total"] == sum(
        t.numel() * t.element_size() for t in model.net_.module_.state_dict().values()
    )
    assert model.n_parameters_ == sum(p.numel() for p in model.net_.module_.parameters())
    encoder = model.encoder_
    values = sum(encoder.n_ids_) + sum(encoder.sequence_n_ids_)
    per_number = numeric_rows("piecewise", encoder.n_bins)  # vectors of one numeric column
    full = 4 * 8 * (values + per_number * len(encoder.numeric_))
    stored = parts["embedding"] + parts["projection"] + parts["index"]
    assert model.compression_ratio_ == pytest.approx(full / stored)
    if name == "nothing":
        assert model.compression_ratio_ == 1 and parts["embedding"] == full
    else:
        # Triples have a table of their own, which is whole and counts.
        assert model.compression_ratio_ > (0.5 if name == "autodim+autofis" else 1)
    if name == "pep":
        mask = mask_from_text(model.architecture_["embedding"]["mask"])
        assert (
            parts["embedding"] == 4 * (mask.sum() + per_number * 8 * len(encoder.numeric_))
            and parts["index"] > 0
        )


@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
@pytest.mark.parametrize("name", ["autodim", "pep", "magnitude", "autodim+autofis", "pep+autofis"])
def test_training_goes_on_in_the_found_network(table, name, how, problems):
    X, y = table
    model = fit(table, METHODS[name], warm_start=True, embedding_l2=1e-5)
    architecture, nbytes, before = model.architecture_, model.nbytes_, model.decision_function(X)
    history, n_searches = model.search_history_, len(problems)
    table_before = {
        n: p.detach().clone() for n, p in model.net_.module_.embedding.named_parameters()
    }
    if how == "warm_start":
        model.set_params(max_epochs=5).fit(X, y)
    else:
        for _ in range(3):
            model.partial_fit(X, y)
    assert len(problems) == n_searches and model.search_history_ == history
    assert model.architecture_ == architecture and model.nbytes_ == nbytes
    assert model.n_iter_ == 5 and not np.array_equal(model.decision_function(X), before)
    parameters = dict(model.net_.module_.embedding.named_parameters())
    still = {n for n, p in parameters.items() if len(p) and torch.equal(p, table_before[n])}
    # In a machine whose products are chosen, a width may belong to fields alone that take part in
    # none.
    assert not still or ("autofis" in name and still < set(parameters)), still
    losses = [r["train_loss"] for r in model.history_]
    assert len(losses) == 5 and losses[-1] < losses[0]


def test_partial_fit_cannot_start_with_a_search(table):
    with pytest.raises(ValueError, match="partial_fit cannot start with search="):
        CTRClassifier(search=AutoDim(), **PARAMS).partial_fit(*table, classes=[0, 1])
