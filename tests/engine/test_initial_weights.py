"""Weights of a fitted model on another table: by name, by value, and nothing silently wrong."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture, SearchMethod, describe
from sklearn_autorec.engine._initial_weights import initial_weights
from sklearn_autorec.interaction import RandomInteractions
from sklearn_autorec.networks import FM, FwFM, MLPNetwork
from sklearn_autorec.nn import BuildContext, FieldLayout, FieldNetwork
from sklearn_autorec.preprocessing import FieldEncoder

OPTIONS = {
    "network": "fm",
    "embedding_dim": 3,
    "max_epochs": 1,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}


def table(colours, n=60, seed=0):
    """One column of each kind; the first colours are the most frequent ones."""
    rng = np.random.default_rng(seed)
    repeated = [c for k, c in enumerate(colours) for _ in range(len(colours) - k)]
    X = pd.DataFrame(
        {
            "colour": [repeated[k % len(repeated)] for k in range(n)],
            "size": [f"s{k % 3}" for k in range(n)],
            "price": rng.normal(size=n),
            "tags": [["a", "b"] if k % 2 else ["b", "c"] for k in range(n)],
        }
    )
    return X, np.arange(n) % 2


def fitted(X, y, **options):
    return CTRClassifier(**{**OPTIONS, **options}).fit(X, y)


def network_for(X, network=None, **options):
    """An encoder of a table, the context of it and a new network."""
    encoder = FieldEncoder(**options.pop("encoder", {})).fit(X)
    options = {"embedding_dim": 3, "numeric_embedding": "piecewise", **options}
    context = BuildContext(
        generator=torch.Generator().manual_seed(7),
        numeric_range=encoder.numeric_range_,
        **{name: getattr(FieldLayout.of_encoder(encoder), name) for name in LAYOUT},
        **options,
    )
    return encoder, context, (network or FM()).build(context, {})


LAYOUT = ("field_names", "n_ids", "n_numeric", "sequences", "shared")


def rows_of(encoder, state, field, value, name="embedding.weight"):
    """The row of a value of the categorical column of that number."""
    start = sum(encoder.n_ids_[:field])
    return state[name][start + 2 + list(encoder.categories_[field]).index(value)]


@pytest.fixture(scope="module")
def source():
    return fitted(*table(["red", "blue", "green"]))


def test_the_same_table_gives_the_same_weights(source):
    encoder, context, module = network_for(table(["red", "blue", "green"])[0])
    weights = initial_weights(source, encoder, context, module)
    theirs = source.net_.module_.state_dict()
    assert weights.state.keys() == theirs.keys()
    for name, t in theirs.items():
        assert torch.equal(weights.state[name], t) and weights.known[name].all()
    assert weights.new_columns == []
    assert set(weights.new_values.values()) == {0}


def test_rows_follow_their_values_and_new_ones_keep_their_own(source):
    X, _ = table(["green", "violet", "red"])  # another order; violet is new, blue is gone
    encoder, context, module = network_for(X)
    own, theirs = module.state_dict(), source.net_.module_.state_dict()
    weights = initial_weights(source, encoder, context, module)
    for name in ("embedding.weight", "linear.weight"):
        for colour in ("green", "red"):
            there = rows_of(source.encoder_, theirs, 0, colour, name)
            assert torch.equal(rows_of(encoder, weights.state, 0, colour, name), there)
        there = rows_of(encoder, own, 0, "violet", name)
        assert torch.equal(rows_of(encoder, weights.state, 0, "violet", name), there)
        assert torch.equal(weights.state[name][:2], theirs[name][:2])  # missing and unknown
    known = weights.known["embedding.weight"][:, 0]
    assert (~known).sum() == 1 and not rows_of(encoder, {"k": known}, 0, "violet", "k")
    assert weights.new_values == {"colour": 1, "size": 0, "tags": 0}


def test_items_of_lists_follow_their_values(source):
    X, _ = table(["red", "blue", "green"])
    X["tags"] = [["c", "z"] if k % 2 else ["a"] for k in range(len(X))]
    encoder, context, module = network_for(X)
    weights = initial_weights(source, encoder, context, module)
    own_start, their_start = sum(encoder.n_ids_), sum(source.encoder_.n_ids_)
    own_items = list(encoder.sequence_categories_[0])
    their_items = list(source.encoder_.sequence_categories_[0])
    for item in ("a", "c"):
        row = weights.state["embedding.weight"][own_start + 2 + own_items.index(item)]
        there = source.net_.module_.embedding.weight[their_start + 2 + their_items.index(item)]
        assert torch.equal(row, there)
    assert weights.new_values["tags"] == 1


def test_numbers_and_columns_go_by_name():
    X, y = table(["red", "blue", "green"])
    X["weight"] = np.linspace(0, 1, len(X))
    source = fitted(X, y, network=MLPNetwork((4,), dropout=0.0))
    # Another order, a new column, and one that is gone.
    target = X[["weight", "price", "tags", "colour"]].assign(new=X["size"])
    encoder, context, module = network_for(target, MLPNetwork((4,), dropout=0.0))
    own = module.state_dict()
    weights = initial_weights(source, encoder, context, module)
    theirs = source.net_.module_.state_dict()
    name = "embedding.numeric_weight"
    their_numbers = source.encoder_.field_names_[2:4]
    assert their_numbers == ["price", "weight"]
    assert encoder.field_names_ == ["colour", "new", "weight", "price", "tags"]
    assert torch.equal(weights.state[name], theirs[name][:, [1, 0]])
    # The first layer reads three numbers of every field.
    name, d = "head.layers.0.weight", 3
    columns = {f: slice(k * d, k * d + d) for k, f in enumerate(encoder.field_names_)}
    their_columns = {f: k * d for k, f in enumerate(source.encoder_.field_names_)}
    for field, own_columns in columns.items():
        there = own[name][:, own_columns]
        if field != "new":
            k = their_columns[field]
            there = theirs[name][:, k : k + d]
        assert torch.equal(weights.state[name][:, own_columns], there)
    assert weights.new_columns == ["new"]
    assert torch.equal(
        weights.state["head.layers.1.running_mean"], theirs["head.layers.1.running_mean"]
    )


def test_pairs_of_fields_go_by_name():
    X, y = table(["red", "blue", "green"])
    source = fitted(X, y, network="fwfm")
    encoder, context, module = network_for(X[["colour", "price", "tags"]], FwFM())
    weights = initial_weights(source, encoder, context, module)
    theirs = source.net_.module_.state_dict()
    name = next(n for n, t in theirs.items() if t.shape[-1] == 6 and n.startswith("interaction"))
    # Pairs of colour, size, price, tags: 01 02 03 12 13 23; without size 02 03 23 are left.
    assert torch.equal(weights.state[name], theirs[name][..., [1, 2, 5]])


def test_values_are_one_by_the_rule_of_spelling():
    X, y = table(["1", "2", "3"])
    source = fitted(X, y)
    numbers = X["colour"].astype(int).astype("category")
    encoder, context, module = network_for(X.assign(colour=numbers))
    assert encoder.categories_[0].dtype.kind == "i"
    weights = initial_weights(source, encoder, context, module)
    assert weights.new_values["colour"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_dim": 4}, "has embedding_dim=3, this model 4; set embedding_dim=3"),
        ({"numeric_embedding": "linear"}, "has numeric_embedding='piecewise', this model 'linear'"),
        ({"n_outputs": 2}, "'linear.weight' has the shape .* there, the source has it of shape"),
        ({"network": MLPNetwork((4,))}, "has weights that this network has not: .*linear"),
        (
            {"encoder": {"hash_threshold": 1, "n_hash_buckets": 8}},
            "column 'colour' is hashed into 8 buckets here and into 0",
        ),
        (
            {"encoder": {"categorical_features": {"price": "id"}}},
            "column 'price' holds ids here and numbers in the table of the source",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(source, options, message):
    encoder, context, module = network_for(table(["red", "blue", "green"])[0], **options)
    with pytest.raises(ValueError, match=message):
        initial_weights(source, encoder, context, module)


def test_sources_that_cannot_serve_are_refused(source):
    X, y = table(["red", "blue", "green"])
    given = network_for(X)
    with pytest.raises(ValueError, match="must be a fitted CTRClassifier or RatingRegressor"):
        initial_weights(CTRClassifier(), *given)
    with pytest.raises(ValueError, match="has members=2"):
        initial_weights(fitted(X, y, members=2), *given)
    with pytest.raises(ValueError, match="has seen a single class"), pytest.warns(UserWarning):
        initial_weights(fitted(X, np.ones_like(y)), *given)
    with pytest.raises(ValueError, match="knows none of the columns"):
        initial_weights(source, *network_for(X.rename(columns=str.upper)))
    ratings = RatingRegressor(**OPTIONS).fit(X, y)
    context = network_for(X, reference_loss=source.net_.criterion_)
    with pytest.raises(ValueError, match="both must predict the same kind of target"):
        initial_weights(ratings, *context)
    encoder, _, _ = network_for(X)
    with pytest.raises(ValueError, match="another search has dropped fields or values"):
        initial_weights(source, encoder, *network_for(X[["colour", "size"]])[1:])


def test_lists_that_share_a_vocabulary_share_its_rows():
    X, y = table(["a", "b", "c"])
    options = {"shared_vocabularies": {"tags": "colour"}}
    source = fitted(X, y, encoder=FieldEncoder(**options))
    encoder, context, module = network_for(table(["c", "z", "a"])[0], encoder=options)
    weights = initial_weights(source, encoder, context, module)
    theirs = source.net_.module_.state_dict()
    for value in ("a", "b", "c"):  # b stands in lists alone here
        there = rows_of(source.encoder_, theirs, 0, value)
        assert torch.equal(rows_of(encoder, weights.state, 0, value), there)
    assert weights.new_values == {"colour": 1, "size": 0}
    message = "column 'tags' shares the vocabulary of None here and of 'colour' in the table of"
    with pytest.raises(ValueError, match=message):
        initial_weights(source, *network_for(X))


def test_hashed_columns_go_by_bucket():
    X, y = table(["red", "blue", "green"])
    options = {"hash_threshold": 1, "n_hash_buckets": 8}
    source = fitted(X, y, encoder=FieldEncoder(**options))
    encoder, context, module = network_for(X, encoder=options)
    weights = initial_weights(source, encoder, context, module)
    assert torch.equal(
        weights.state["embedding.weight"], source.net_.module_.state_dict()["embedding.weight"]
    )


class Taken(SearchMethod):
    """Serves the source's network as it is; knows the encoder of the table."""

    slot = "embedding"
    retrain = "keep"
    fit_only = ("source",)

    def __init__(self, source=None, scale=1.0):
        self.source = source
        self.scale = scale

    def search(self, problem):
        plain = problem.network.build(problem.context, {})
        weights = initial_weights(self.source, problem.encoder, problem.context, plain)
        problem.train(plain.embedding, start=weights.state, epochs=1)
        return {"scale": self.scale}

    def realise(self, architecture, context):
        return FieldNetwork(context, {}).embedding


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_of_the_source_stays_after_the_fit(source, frozen):
    X, y = table(["green", "violet", "red"])
    source = FrozenEstimator(source) if frozen else source
    model = CTRClassifier(search=Taken(source), **OPTIONS)
    assert clone(model).search.source is source  # grid searches keep it
    assert pickle.loads(pickle.dumps(model)).search.source is not None  # workers too
    model.fit(X, y)
    assert model.search.source is source and clone(model).search.source is source
    assert model.architecture_["embedding"]["params"] == {"scale": 1.0}
    again = pickle.loads(pickle.dumps(model))
    assert again.search.source is None
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert b"blue" in pickle.dumps(source)  # a value that this table does not have
    assert b"blue" not in pickle.dumps(model)
    in_list = CTRClassifier(search=[Taken(source)], **OPTIONS).fit(X, y)
    assert pickle.loads(pickle.dumps(in_list)).search[0].source is None


def test_methods_without_such_parameters_are_left_alone():
    method = RandomInteractions()
    X, y = table(["red", "blue"])
    model = fitted(X, y, search=method)
    assert model.__getstate__()["search"] is method
    assert isinstance(clone(method), RandomInteractions)
    assert "params" in describe(method, "method")
    fixed = CTRClassifier.from_architecture(model.architecture_).search
    assert isinstance(clone(fixed[0]), FixedArchitecture)
