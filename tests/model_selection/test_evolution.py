"""Regularized evolution: the algorithm against a plain one, planted spaces, resumption,
refusals.
"""

import pickle

import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.model_selection import RegularizedEvolutionSearchCV
from sklearn_autorec.model_selection._mutation import draw_other
from sklearn_autorec.model_selection._running._checkpoint import Checkpoint

ROWS, LABELS = np.zeros((8, 1)), np.array([0, 1] * 4)


class Bits(ClassifierMixin, BaseEstimator):
    """Scores the number of ones among twelve bits; the last two count only together. ``lr`` is best
    at 0.01.
    """

    def __init__(
        self,
        b0=0,
        b1=0,
        b2=0,
        b3=0,
        b4=0,
        b5=0,
        b6=0,
        b7=0,
        b8=0,
        b9=0,
        b10=0,
        b11=0,
        lr=0.01,
        depth=5,
    ):
        for name, value in locals().items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if self.lr == "broken":
            raise ArithmeticError("broken rate")
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y=None):
        bits = [getattr(self, f"b{k}") for k in range(12)]
        return (
            sum(bits[:10])
            + 2 * (bits[10] & bits[11])
            - abs(np.log10(self.lr / 0.01))
            - 0.3 * abs(self.depth - 5)
        )


BITS = {f"b{k}": [0, 1] for k in range(12)}
MIXED = {**BITS, "lr": loguniform(1e-5, 1), "depth": randint(1, 20)}


def search(space=MIXED, estimator=None, **options):
    options = {
        "n_iter": 60,
        "population": 15,
        "tournament": 5,
        "random_state": 0,
        "cv": 2,
        **options,
    }
    return RegularizedEvolutionSearchCV(
        Bits() if estimator is None else estimator, space, **options
    )


def test_parameters_of_one_value_never_mutate():
    space = {"b0": [0, 1], **{f"b{k}": [1] for k in range(1, 12)}}
    mutated = search(space, n_iter=25, population=5).fit(ROWS, LABELS).cv_results_["mutated"]
    assert set(mutated[5:]) == {"b0"} and len(mutated) == 25


def same_results(a, b):
    assert a.keys() == b.keys()
    for name in a:
        if not name.endswith("_time"):
            np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]), err_msg=name)


# the algorithm
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_parents_are_of_the_queue_and_children_differ_in_one_parameter(batch_size):
    found = search(batch_size=batch_size).fit(ROWS, LABELS)
    results = found.cv_results_
    params, parent, mutated = results["params"], results["parent"], results["mutated"]
    assert len(params) == 60 and (parent[:15] == -1).all() and (mutated[:15] == "").all()
    for row in range(15, 60):
        # Rows known when the child's batch was made.
        born_before = 15 + (row - 15) // batch_size * batch_size
        assert born_before - 15 <= parent[row] < born_before  # the oldest have left the queue
        different = [n for n in MIXED if params[row][n] != params[parent[row]][n]]
        assert different == [mutated[row]]
    assert len({str(sorted(p.items())) for p in params}) == 60  # nothing twice
    assert set(mutated[15:]) > {"lr", "depth"}


def test_the_parent_is_the_best_of_its_tournament():
    """With the whole queue in each tournament it is the best of the queue; with one it is
    anyone.
    """
    results = search(tournament=15, batch_size=1).fit(ROWS, LABELS).cv_results_
    scores, parent = results["mean_test_score"], results["parent"]
    for row in range(15, 60):
        assert scores[parent[row]] == scores[row - 15 : row].max()
    results = search(tournament=1, batch_size=1).fit(ROWS, LABELS).cv_results_
    ranks = [
        np.sum(
            results["mean_test_score"][r - 15 : r]
            > results["mean_test_score"][results["parent"][r]]
        )
        for r in range(15, 60)
    ]
    assert 4.5 < np.mean(ranks) < 9.5


def test_the_best_dies_of_age():
    """A queue of one: each child descends from the one before, whatever its score."""
    results = search(population=1, tournament=1, batch_size=1).fit(ROWS, LABELS).cv_results_
    assert results["parent"].tolist() == list(range(-1, 59))
    assert (np.diff(results["mean_test_score"]) < 0).any()


def test_one_max_is_solved():
    """Card of the method: twenty bits in 600 evaluations; here twelve bits and the pair in 200."""
    needed = []
    for seed in range(5):
        results = (
            search(BITS, n_iter=200, random_state=seed, refit=False).fit(ROWS, LABELS).cv_results_
        )
        needed.append(
            np.argmax(results["mean_test_score"] == 12)
            if 12 in results["mean_test_score"]
            else 1000
        )
    assert np.median(needed) < 150


def test_evolution_beats_random_search_and_random_parents():
    best = {"evolution": [], "random": [], "random parents": []}
    for seed in range(5):
        options = {"n_iter": 80, "random_state": seed, "refit": False}
        best["evolution"].append(search(**options).fit(ROWS, LABELS).best_score_)
        best["random parents"].append(search(**options, tournament=1).fit(ROWS, LABELS).best_score_)
        best["random"].append(search(**options, population=80).fit(ROWS, LABELS).best_score_)
    mean = {name: np.mean(scores) for name, scores in best.items()}
    assert mean["evolution"] > mean["random"] + 1 and mean["evolution"] > mean["random parents"] + 1


def test_random_population_only():
    """An evolution without a second generation is a random search: the control above is what it
    says.
    """
    results = search(population=80, n_iter=80).fit(ROWS, LABELS).cv_results_
    assert (results["parent"] == -1).all()
    assert 0.4 < np.mean([[p[name] for name in BITS] for p in results["params"]]) < 0.6


# around it
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    return make_classification(120, n_features=5, random_state=0)


def test_any_estimator_and_its_best(rows):
    model = make_pipeline(StandardScaler(), SVC())
    space = {
        "svc__C": loguniform(1e-2, 1e2),
        "svc__kernel": ["rbf", "linear"],
        "standardscaler__with_mean": [True, False],
    }
    found = search(space, model, n_iter=20, population=6, tournament=3).fit(*rows)
    results = found.cv_results_
    assert (
        found.best_score_ == results["mean_test_score"].max()
        and results["rank_test_score"][found.best_index_] == 1
    )
    assert found.best_params_ == results["params"][found.best_index_]
    by_hand = clone(model).set_params(**found.best_params_).fit(*rows)
    np.testing.assert_array_equal(
        found.decision_function(rows[0]), by_hand.decision_function(rows[0])
    )


def test_several_metrics(rows):
    model, space = (
        DecisionTreeClassifier(random_state=0),
        {"max_depth": randint(1, 9), "criterion": ["gini", "entropy"]},
    )
    options = {"n_iter": 12, "population": 5, "tournament": 2, "scoring": ["accuracy", "roc_auc"]}
    found = search(space, model, **options, refit="roc_auc").fit(*rows)
    assert found.best_score_ == found.cv_results_["mean_test_roc_auc"].max()
    assert not hasattr(search(space, model, **options, refit=False).fit(*rows), "best_params_")


def test_workers_do_not_change_the_results(rows):
    model, space = (
        DecisionTreeClassifier(random_state=0),
        {"max_depth": randint(1, 9), "min_samples_leaf": uniform(0.01, 0.3)},
    )
    found = [search(space, model, n_iter=20, population=8, n_jobs=n).fit(*rows) for n in (1, 2)]
    same_results(found[0].cv_results_, found[1].cv_results_)


def test_a_killed_search_resumes_to_the_same_end(tmp_path):
    class Killed(BaseException):
        pass

    whole, stored, save = search().fit(ROWS, LABELS), [], Checkpoint.save

    def save_or_die(*args):
        if len(stored) == 63:
            raise Killed
        stored.append(save(*args))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_or_die)
        with pytest.raises(Killed):
            search(checkpoint=tmp_path).fit(ROWS, LABELS)
    same_results(search(checkpoint=tmp_path).fit(ROWS, LABELS).cv_results_, whole.cv_results_)


def test_failed_candidates_have_no_children():
    space = {**BITS, "lr": [0.01, "broken"]}
    with (
        pytest.warns(FitFailedWarning, match="broken rate"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        found = search(space, tournament=15).fit(ROWS, LABELS)
    results = found.cv_results_
    failed = np.isnan(results["mean_test_score"])
    assert (
        failed.any()
        and not failed[results["parent"][15:]].any()
        and found.best_params_["lr"] == 0.01
    )
    with pytest.raises(ArithmeticError, match="broken rate"):
        search(space, error_score="raise").fit(ROWS, LABELS)


def test_spaces_with_odd_values():
    rng = np.random.RandomState(0)
    space = {
        "b0": [0],
        "b1": np.array([0, 1]),
        "depth": rng_values(rng),
        "b2": (None, 0, "x", (1, 2)),
    }
    results = (
        search(space, Odd(), n_iter=30, population=5, tournament=2).fit(ROWS, LABELS).cv_results_
    )
    assert set(results["mutated"]) == {"", "b1", "b2", "depth"}  # one value has no other
    only = search({"b0": [1]}, n_iter=4, population=2, tournament=1).fit(ROWS, LABELS)
    assert [p["b0"] for p in only.cv_results_["params"]] == [1] * 4  # nothing else to evaluate


def rng_values(rng):
    class Dice:
        """A distribution of a user's own: draws, and nothing else."""

        def rvs(self, random_state=None):
            return int(random_state.randint(1, 7))

    return Dice()


class Odd(Bits):
    def score(self, X, y=None):
        return self.depth


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_iter": 0}, "'n_iter' parameter"),
        ({"mutation_scale": 0.0}, "'mutation_scale' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"tournament": 16}, "tournament=16 draws from a population of 15"),
        ({"space": [BITS]}, "'param_distributions' parameter"),
        (
            {"space": {}},
            r"param_distributions must be a non-empty dict of parameter names, got \{\}",
        ),
        ({"space": {"lr": 3}}, r"param_distributions\['lr'\] must be a non-empty list .* got 3"),
        (
            {"space": {"rate": [3]}},
            r"param_distributions names \['rate'\], which Bits does not have",
        ),
    ],
    ids=str,
)
def test_refusals(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        search(**options, checkpoint=tmp_path / "folder").fit(ROWS, LABELS)
    assert not (tmp_path / "folder").exists()


def test_pickle_clone_and_untouched_state(rows):
    space = {"max_depth": randint(1, 9), "min_samples_leaf": uniform(0.01, 0.3)}
    unfitted = search(
        space, DecisionTreeClassifier(random_state=0), n_iter=12, population=5, tournament=2
    )
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    found = clone(unfitted).fit(*rows)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict(rows[0]), found.predict(rows[0]))
    same_results(clone(found).fit(*rows).cv_results_, found.cv_results_)


def test_another_value_of_a_list_differs_in_value_or_type():
    random_state = np.random.RandomState(0)
    assert [draw_other([1, True], True, random_state) is True for _ in range(20)] == [False] * 20
    arrays = [np.zeros(2), np.ones(3)]
    assert all(draw_other(arrays, np.zeros(2), random_state) is arrays[1] for _ in range(20))
