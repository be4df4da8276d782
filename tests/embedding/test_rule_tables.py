"""RULE on tables of all kinds, in its place among other trainings, and what it refuses."""

import numpy as np
import pytest
from size_cases import context, odd_table

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import RULE
from sklearn_autorec.engine import SearchProblem
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.serving import load, save

# Tables of all kinds, and what is refused
# ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed():
    return odd_table()


FEW = {"n_samples": 12, "n_evaluations": 30, "population": 10}
SMALL = {"embedding_dim": 6, "max_epochs": 1, "search_epochs": 1, "random_state": 0}


@pytest.mark.parametrize("network", ["fm", "deepfm", "dcn"])
@pytest.mark.parametrize("cls", [CTRClassifier, RatingRegressor])
def test_odd_tables_fit_predict_and_are_cut(cls, network, mixed, tmp_path):
    X, y = mixed
    model = cls(network=network, search=RULE(0.5, n_blocks=3, **FEW), **SMALL).fit(X, y * 1.0)
    new = X[:5].assign(a=["unseen", None, "1", "2", "3"])
    for m in (model, model.specialize(0.1), model.specialize(1.0)):
        predictions = m.predict(new)
        assert np.isfinite(predictions.astype(float)).all() and len(m.predict(new[:1])) == 1
        save(m, tmp_path / "model")
        np.testing.assert_array_equal(load(tmp_path / "model").predict(new), predictions)
    assert model.n_iter_ == 0 and len(model.search_history_) == 1


def test_numbers_alone_have_no_table_to_search():
    X = np.random.default_rng(0).normal(size=(100, 3))
    model = CTRClassifier(network="fm", search=RULE(**FEW), **SMALL).fit(X, X[:, 0] > 0)
    assert model.predict(X).shape == (100,) and not hasattr(model, "specialize")


def test_rows_that_score_are_not_trained_on(mixed, monkeypatch):
    trained, scored = [], []
    real_train, real_score = SearchProblem.train, SearchProblem.score

    def train(self, *args, rows=None, **kwargs):
        trained.append(rows)
        return real_train(self, *args, rows=rows, **kwargs)

    def score(self, result, rows=None):
        scored.append(rows)
        return real_score(self, result, rows)

    monkeypatch.setattr(SearchProblem, "train", train)
    monkeypatch.setattr(SearchProblem, "score", score)
    X, y = mixed
    CTRClassifier(network="fm", search=RULE(search_fraction=0.3, **FEW), **SMALL).fit(X, y)
    assert len(trained) == 1 and len(scored) >= 13 + 5
    for rows in scored:
        assert sorted([*trained[0].tolist(), *rows.tolist()]) == list(range(200))


def test_other_parts_may_be_searched_afterwards_and_keep_what_they_are(mixed):
    X, y = mixed
    search = [RULE(0.5, **FEW), AutoFIS(retrain="scratch")]
    model = CTRClassifier(network="fm", search=search, **SMALL).fit(X, y)
    small = model.specialize(0.1)
    assert small.interactions_ == model.interactions_
    assert small.search[0].budget == 0.1 and small.search[1] is search[1]
    assert small.nbytes_["embedding"] < model.nbytes_["embedding"]


def test_training_that_goes_on_leaves_the_supernet_behind(mixed):
    X, y = mixed
    model = CTRClassifier(network="fm", search=RULE(0.5, **FEW), **SMALL).fit(X, y)
    assert hasattr(model, "specialize")
    n_bytes = model.nbytes_["embedding"]
    model.partial_fit(X, y)
    assert not hasattr(model, "specialize") and model.nbytes_["embedding"] == n_bytes


def test_an_interrupted_search_cuts_nothing_and_serves_what_it_has(mixed, interrupted_searches):
    X, y = mixed
    model = CTRClassifier(network="fm", search=RULE(0.2, **FEW), **{**SMALL, "search_epochs": 4})
    with pytest.warns(UserWarning, match="was interrupted"):
        model.fit(X, y)
    assert not hasattr(model, "specialize")
    n_ids = [*model.encoder_.n_ids_, *model.encoder_.sequence_n_ids_]
    assert model.nbytes_["embedding"] == 4 * 6 * (sum(n_ids) + 26)
    assert model.predict_proba(X)[:, 1].std() > 0


@pytest.mark.parametrize("budget, told", [(4, "4 bytes"), (0.0001, "0 bytes")])
def test_a_budget_of_less_than_a_block_is_refused(budget, told, mixed):
    options = {"network": "fm", "embedding_dim": 16, "max_epochs": 1, "random_state": 0}
    with pytest.raises(ValueError, match=rf"budget={budget!r} is {told}, but the smallest block"):
        CTRClassifier(search=RULE(budget, **FEW), **options).fit(*mixed)
    model = CTRClassifier(search=RULE(0.5, **FEW), **options).fit(*mixed)
    with pytest.raises(ValueError, match=rf"budget={budget!r} is {told}, but the smallest block"):
        model.specialize(budget)
    with pytest.raises(TypeError, match="budget must be a share"):
        model.specialize("half")


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 1.5},
        {"n_groups": 0},
        {"n_blocks": 0},
        {"diversity": -1.0},
        {"n_samples": 1},
        {"n_evaluations": 0},
        {"population": 0},
        {"n_rescored": 0},
        {"search_fraction": 1.0},
        {"pickle_supernet": 1},
    ],
)
def test_bad_parameters_are_named(options, mixed):
    (name,) = options
    with pytest.raises(ValueError, match=f"'{name}' parameter of RULE"):
        CTRClassifier(network="fm", search=RULE(**options), **SMALL).fit(*mixed)


@pytest.mark.parametrize(
    "key, bad",
    [
        ("bounds", [[12], [5], [6]]),
        ("bounds", [[4, 4, 12], [5], [7]]),
        ("bounds", [[0, 12], [5], [7]]),
        ("bounds", [[True, 12], [5], [7]]),
        ("bounds", [[12], [5]]),
        ("bounds", None),
        ("blocks", [[0]] * 2),
        ("blocks", [[0], [1], [5]]),
        ("blocks", [[0], [1, 1], [2]]),
        ("blocks", [[0], [-1], [2]]),
        ("blocks", [[0], 1, [2]]),
    ],
)
def test_bad_architectures_are_refused(key, bad):
    architecture = {"bounds": [[12], [5], [7]], "blocks": [[0], [], [1, 4]]}
    RULE().check(architecture, context())
    with pytest.raises(ValueError, match=f"{key} must hold"):
        RULE().check({**architecture, key: bad}, context())
    RULE().check({**architecture, "index": "bits"}, context())
    with pytest.raises(ValueError, match="index must be 'bits' or left out, got 'bytes'"):
        RULE().check({**architecture, "index": "bytes"}, context())


def test_files_of_earlier_releases_hold_positions(mixed, tmp_path):
    X, y = mixed
    model = CTRClassifier(network="fm", search=RULE(0.5, **FEW), **SMALL).fit(X, y)
    entry = {**model.architecture_["embedding"]}
    del entry["index"]
    earlier = CTRClassifier.from_architecture({**model.architecture_, "embedding": entry}, **SMALL)
    earlier.fit(X, y)
    assert "embedding.position" in earlier.net_.module_.state_dict()
    assert earlier.nbytes_["index"] > model.nbytes_["index"] > 0
    save(earlier, tmp_path / "model")
    read = load(tmp_path / "model")
    np.testing.assert_array_equal(read.predict_proba(X), earlier.predict_proba(X))
