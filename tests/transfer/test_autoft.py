import functools
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import describe
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import RandomInteractions
from sklearn_autorec.networks import FM, DeepFM, FwFM, MLPNetwork
from sklearn_autorec.nn import MLP, BuildContext, Inputs
from sklearn_autorec.serving import load, save
from sklearn_autorec.transfer import AutoFT
from sklearn_autorec.transfer._frozen_or_tuned import (
    FixedPolicy,
    FrozenOrTuned,
    NetworkBody,
    SampledPolicy,
    chosen_weights,
    groups_of,
)

OPTIONS = {
    "network": "fm",
    "embedding_dim": 4,
    "lr": 0.02,
    "max_epochs": 10,
    "search_epochs": 10,
    "early_stopping": False,
    "device": "cpu",
}
CARDINALITY, N_FIELDS, CHANGED = 12, 6, (0, 1)


def draw(rng, n, effects):
    """Fields with effects of their own."""
    values = rng.integers(CARDINALITY, size=(n, N_FIELDS))
    logits = effects[np.arange(N_FIELDS), values].sum(1)
    X = pd.DataFrame({f"f{f}": [f"v{v}" for v in values[:, f]] for f in range(N_FIELDS)})
    return X, (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)


def planted(seed, n_target=400):
    """Many rows of a source, few and many of a target in which two fields say the opposite."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=(N_FIELDS, CARDINALITY))
    effects -= effects.mean(1, keepdims=True)
    changed = effects.copy()
    changed[list(CHANGED)] *= -1
    return draw(rng, 6000, effects), draw(rng, n_target, changed), draw(rng, 4000, changed)


def fit(X, y, search=None, seed=0, estimator=CTRClassifier, **options):
    return estimator(search=search, random_state=seed, **{**OPTIONS, **options}).fit(X, y)


class FineTuneAll(AutoFT):
    """The same training with all gates open: what AutoFT is compared with."""

    def search(self, problem):
        transfer, n = self._begin(problem), problem.context.n_fields
        gates = torch.ones(n + len(transfer.layers))
        problem.train(transfer.parts(FixedPolicy(gates), FrozenOrTuned))
        return {
            "embedding": {"tuned_fields": [*range(n)], "tune_probabilities": [1.0] * n},
            "body": {
                "network": describe(problem.network, "network"),
                "layers": transfer.layers,
                "tuned_layers": transfer.layers,
                "tune_probabilities": [1.0] * len(transfer.layers),
            },
        }


@functools.cache
def results(seed):
    """Log losses by way of training, and how well policies tell the changed fields."""
    (X, y), target, (X_test, y_test) = planted(seed)
    source = fit(X, y, seed=seed, max_epochs=6)
    shuffled = fit(X, np.random.default_rng(seed).permutation(y), seed=seed, max_epochs=6)
    models = {
        "autoft": fit(*target, AutoFT(source), seed),
        "tuned": fit(*target, FineTuneAll(source), seed),
        "scratch": fit(*target, None, seed),
        "shuffled": fit(*target, AutoFT(shuffled), seed),
    }
    losses = {k: log_loss(y_test, model.predict_proba(X_test)) for k, model in models.items()}
    truth = [f in CHANGED for f in range(N_FIELDS)]
    told = {
        k: roc_auc_score(truth, models[k].architecture_["embedding"]["tune_probabilities"])
        for k in ("autoft", "shuffled")
    }
    return losses, told


@pytest.mark.parametrize("seed", range(5))
def test_it_tunes_what_has_changed_and_is_better_than_either_extreme(seed):
    losses, told = results(seed)
    assert told["autoft"] == 1.0
    assert losses["autoft"] < min(losses["tuned"], losses["scratch"]), losses


def test_a_source_of_noise_helps_nobody_and_tells_nothing():
    gains, noise, told = [], [], []
    for seed in range(5):
        losses, policies = results(seed)
        gains.append(losses["scratch"] - losses["autoft"])
        noise.append(losses["scratch"] - losses["shuffled"])
        told.append(policies["shuffled"])
    assert np.mean(gains) > 0.05 and np.mean(noise) < 0.01, (gains, noise)
    assert np.mean(told) < 0.9


# The modules
# --------------------------------------------------------------------------------------------


def context_of(**options):
    options = {"n_ids": (4, 3), "n_numeric": 1, "sequences": ((5, 2),), **options}
    n = len(options["n_ids"]) + options["n_numeric"] + len(options["sequences"])
    names = tuple(f"x{k}" for k in range(n))
    return BuildContext(names, embedding_dim=2, generator=torch.Generator(), **options)


def test_groups_are_fields_and_layers():
    context = context_of()
    layers, groups = groups_of(DeepFM((5, 4)).build(context, {}), context)
    assert layers == ["head.layers.0", "head.layers.3", "head.layers.6"]
    rows = [0] * 4 + [1] * 3 + [3] * 5
    for table in ("embedding", "linear"):
        assert groups[f"{table}.weight"].ravel().tolist() == rows
        assert groups[f"{table}.numeric_weight"].ravel().tolist() == [2]
    assert groups["linear.bias"].item() == 4 + 3  # always tuned
    for k, layer in ((0, 4), (1, 4), (3, 5), (4, 5), (6, 6)):
        for name in ("weight", "bias"):
            assert groups[f"head.layers.{k}.{name}"].item() == layer
    # Weights of pairs are a layer.
    layers, groups = groups_of(FwFM().build(context, {}), context)
    assert len(layers) == 1 and layers[0].startswith("interaction")


def test_weights_are_chosen_element_by_element():
    generator = torch.Generator().manual_seed(0)
    layer = MLP(3, (2,), generator, n_outputs=1)
    names = [name for name, _ in layer.named_parameters()]
    groups = {
        name: torch.zeros((1,) * p.ndim, dtype=torch.int64) for name, p in layer.named_parameters()
    }
    groups[names[0]] = torch.tensor([[0, 1, 2]])  # by column; group 2 is always tuned
    mixed = FrozenOrTuned(layer, groups, FixedPolicy(torch.tensor([0.0, 1.0]))).eval()
    frozen = {name: p.detach().clone() for name, p in layer.named_parameters()}
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(1.0)
    state = {f"body.{name}": t for name, t in mixed.state_dict().items()}
    chosen = chosen_weights(state, "body.", torch.tensor([0.0, 1.0]))
    expected = frozen[names[0]].clone()
    expected[:, 1:] += 1.0
    assert torch.equal(chosen[f"body.{names[0]}"], expected)
    for name in names[1:]:
        assert torch.equal(chosen[f"body.{name}"], frozen[name])
    x = torch.randn(4, 3, generator=generator)
    out = mixed(x)
    layer.load_state_dict({n.removeprefix("body."): t for n, t in chosen.items()})
    assert torch.equal(layer.eval()(x), out)


def test_gates_are_drawn_in_training_and_have_the_gradient_of_the_relaxation():
    policy = SampledPolicy(2000, torch.Generator().manual_seed(0), (1.0, 1.0), 0.0).train()
    with torch.no_grad():
        policy.logits.fill_(1.0)
    policy.relaxation.set_progress(0.5)
    z = policy()
    assert set(z.tolist()) == {0.0, 1.0}
    assert abs(float(z.detach().mean()) - 1 / (1 + np.exp(-1))) < 0.04
    z.sum().backward()
    noise = policy.relaxation.noise
    p = torch.sigmoid(1.0 + noise[:, 1] - noise[:, 0])
    torch.testing.assert_close(policy.logits.grad, p * (1 - p))
    assert policy.eval()().tolist() == [1.0] * 2000


# What is served
# --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def domains():
    (X, y), (X_target, y_target), _ = planted(0, n_target=200)
    return (X[:600], y[:600]), (X_target, y_target)


QUICK = {"max_epochs": 2, "search_epochs": 2}


@pytest.mark.parametrize("network", ["fm", "fwfm", MLPNetwork((6,)), DeepFM((5, 4)), "dcnv2"])
def test_what_is_frozen_serves_with_the_weights_of_the_source(domains, network):
    (X, y), (X_target, y_target) = domains
    source = fit(X, y, network=network, **QUICK)
    model = fit(X_target, y_target, AutoFT(source), network=network, **QUICK)
    assert model.n_iter_ == 0 and model.history_ == []  # the search leaves nothing to train
    plain = {n.removeprefix("body.network."): t for n, t in model.net_.module_.state_dict().items()}
    theirs = source.net_.module_.state_dict()
    assert plain.keys() == theirs.keys()  # one network, not two
    table, tuned = plain["embedding.weight"], model.architecture_["embedding"]["tuned_fields"]
    start = their_start = 0
    for f, (own, their) in enumerate(
        zip(model.encoder_.categories_, source.encoder_.categories_, strict=True)
    ):
        rows = [start + 2 + k for k in range(len(own))]
        places = [their_start + 2 + list(their).index(value) for value in own]
        same = torch.equal(table[rows], theirs["embedding.weight"][places])
        assert same == (f not in tuned)
        start, their_start = start + 2 + len(own), their_start + 2 + len(their)
    body = model.architecture_["body"]
    for layer in body["layers"]:
        name = layer if layer in plain else f"{layer}.weight"
        if name in plain:
            assert torch.equal(plain[name], theirs[name]) == (layer not in body["tuned_layers"])


def test_new_values_and_columns_are_tuned(domains):
    (X, y), (X_target, y_target) = domains
    source = fit(X.drop(columns="f5"), y, **QUICK)
    X_target = X_target.assign(f4=np.where(np.arange(len(X_target)) % 2, "new", "v1"))
    search = AutoFT(source, arch_lr=1e-9)
    model = fit(X_target, y_target, search, **QUICK)
    entry = model.architecture_["embedding"]
    assert entry["tuned_fields"][-1] == 5 and entry["tune_probabilities"][5] == 1.0
    # Nothing decides against the source; the new value moves all the same.
    frozen = fit(X_target, y_target, search, **{**QUICK, "lr": 1e-12})
    start = sum(model.encoder_.n_ids_[:4]) + 2
    for value, moves in (("new", True), ("v1", 4 in entry["tuned_fields"])):
        row = start + list(model.encoder_.categories_[4]).index(value)
        before, after = (m.net_.module_.embedding.weight[row] for m in (frozen, model))
        assert torch.allclose(before, after, atol=1e-6) != moves


def test_nothing_of_the_source_is_stored(domains, tmp_path):
    (X, y), (X_target, y_target) = domains
    X = X.assign(f0=np.where(np.arange(len(X)) % 7, X["f0"], "only-the-source"))
    source = fit(X, y, **QUICK)
    model = fit(X_target, y_target, AutoFT(source), **QUICK)
    assert b"only-the-source" in pickle.dumps(source)
    assert b"only-the-source" not in pickle.dumps(model)
    assert "source" not in json.dumps(model.architecture_)
    save(model, tmp_path / "model")
    stored = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"only-the-source" not in stored
    p = model.predict_proba(X_target)
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X_target), p)
    again = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="source=None: AutoFT begins with a fitted"):
        again.fit(X_target, y_target)
    np.testing.assert_array_equal(again.predict_proba(X_target), p)
    np.testing.assert_array_equal(clone(model).fit(X_target, y_target).predict_proba(X_target), p)
    again.partial_fit(X_target, y_target)  # the network goes on, all of it
    assert (again.predict_proba(X_target) != p).any()


def test_other_kinds_of_columns_missing_values_and_single_rows(domains):
    rng = np.random.default_rng(0)
    (X, y), _ = domains
    X = X.assign(price=rng.normal(size=len(X)), same=1.0, tags=[["a", "b"], ["b"]] * 300)
    X.loc[::5, ["f1", "price"]] = None
    options = {**QUICK, "numeric_embedding": "periodic"}
    for estimator in (CTRClassifier, RatingRegressor):
        source = fit(X, y, estimator=estimator, **options)
        X_target = X[:40].assign(f0="never seen")
        model = fit(X_target, y[:40], AutoFT(source), 0, estimator, batch_size=3, **options)
        assert np.isfinite(model.predict(X[-1:])).all()
    labels = np.arange(len(X)) % 3
    source = fit(X, labels, **QUICK)
    assert fit(X[:50], labels[:50], AutoFT(source), **QUICK).predict_proba(X).shape == (600, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_dim": 5}, "has embedding_dim=4, this model 5; set embedding_dim=4"),
        ({"network": "fwfm"}, "must have the network"),
        ({"network": "deepfm"}, "must have the network"),
        ({"members": 2}, "members=2 needs members that are trained"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(domains, options, message):
    (X, y), (X_target, y_target) = domains
    source = fit(X, y, **QUICK)
    with pytest.raises(ValueError, match=message):
        fit(X_target, y_target, AutoFT(source), **{**QUICK, **options})


def test_what_cannot_be_transferred_is_refused(domains):
    (X, y), (X_target, y_target) = domains
    with pytest.raises(ValueError, match="must be a fitted CTRClassifier"):
        fit(X_target, y_target, AutoFT(CTRClassifier()), **QUICK)
    searched = fit(X, y, RandomInteractions(), **QUICK)
    with pytest.raises(ValueError, match="has weights that this network has not: .'interaction"):
        fit(X_target, y_target, AutoFT(searched), **QUICK)
    # With all fields kept nothing but its architecture tells that there was a search.
    searched = fit(X, y, AutoField(n_kept=X.shape[1]), **QUICK)
    with pytest.raises(ValueError, match=r"without searched parts, [\s\S]* searched \['gate'\]"):
        fit(X_target, y_target, AutoFT(searched), **QUICK)
    ratings = fit(X, y, estimator=RatingRegressor, **QUICK)
    with pytest.raises(ValueError, match="both must predict the same kind of target"):
        fit(X_target, y_target, AutoFT(ratings), **QUICK)
    source = fit(X, y, **QUICK)
    with pytest.raises(ValueError, match="'source' parameter|source"):
        fit(X_target, y_target, AutoFT("model"), **QUICK)
    with pytest.raises(ValueError, match="temperature must be two positive numbers"):
        fit(X_target, y_target, AutoFT(source, temperature=(0.0, 1.0)), **QUICK)
    with pytest.raises(ValueError, match="dropped fields or values"):
        fit(X_target, y_target, [AutoField(n_kept=3), AutoFT(source)], **QUICK)


@pytest.mark.parametrize(
    ("slot", "change", "message"),
    [
        ("embedding", {"tuned_fields": [6]}, "tuned_fields must be a list of some of"),
        ("embedding", {"tuned_fields": ["f0"]}, "tuned_fields must be a list of some of"),
        ("embedding", {"tune_probabilities": [0.5]}, "must be 6 floats"),
        ("body", {"layers": None}, "layers must be a list of names"),
        ("body", {"tuned_layers": ["head"]}, "tuned_layers must be a list of some of"),
        ("body", {"network": {"network": "Nothing"}}, "'Nothing' is not known"),
        ("body", {"network": {"network": "LR", "params": {}}}, "has no body of its own"),
    ],
)
def test_bad_architectures_are_refused(domains, slot, change, message):
    (X, y), (X_target, y_target) = domains
    architecture = fit(X_target, y_target, AutoFT(fit(X, y, **QUICK)), **QUICK).architecture_
    wrong = {**architecture, slot: {**architecture[slot], **change}}
    options = {k: v for k, v in {**OPTIONS, **QUICK}.items() if k != "network"}
    with pytest.raises(ValueError, match=message):
        CTRClassifier.from_architecture(wrong, **options).fit(X_target, y_target)


class Interrupted(AutoFT):
    """Ctrl-C in the second epoch of the search."""

    def search(self, problem):
        def on_epoch(epoch, record):
            if epoch == 1:
                raise KeyboardInterrupt
            return False

        problem.on_epoch = on_epoch
        return super().search(problem)


def test_an_interrupted_search_keeps_what_its_policy_says(domains):
    (X, y), (X_target, y_target) = domains
    source = fit(X, y, **QUICK)
    with pytest.warns(UserWarning, match="interrupted"):
        model = fit(X_target, y_target, Interrupted(source), **QUICK)
    assert len(model.search_history_) == 2 and np.isfinite(model.predict_proba(X_target)).all()
    names = model.net_.module_.state_dict()
    assert not [name for name in names if "tuned" in name or "frozen" in name]


def test_a_body_is_the_network_behind_the_embeddings():
    context = context_of(n_numeric=0, sequences=())
    plain = FM().build(context, {})
    body = NetworkBody(FM(), context)
    names = {"network." + n: t for n, t in plain.state_dict().items() if n != "embedding.weight"}
    body.load_state_dict(names)
    ids = torch.tensor([[0, 1], [3, 2]], dtype=torch.int32)
    inputs = Inputs(ids, torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.int32))
    torch.testing.assert_close(body(plain.embedding(inputs), inputs), plain(*inputs[:3]))
