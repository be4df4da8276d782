"""Long fits tell scikit-learn's callbacks how far they are, and end what they began."""

import numpy as np
import pytest
from estimators_cases import quick
from scipy.stats import uniform
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross
from sklearn_autorec.feature_crossing._autocross import _cross_search
from sklearn_autorec.feature_crossing._glider import _glider
from sklearn_autorec.feature_selection import (
    FSTD,
    MARLFS,
    DualAgent,
    FieldSelector,
    RandomSubset,
    SensitivitySelector,
)
from sklearn_autorec.model_selection import (
    BayesSearchCV,
    HyperbandSearchCV,
    PopulationSearchCV,
    RegularizedEvolutionSearchCV,
    SuccessiveHalvingSearchCV,
)

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has none before 1.9")


class Recorder:
    """Hears of every task; checks that each begins and ends once, in its parent."""

    def __init__(self, stop_at=None):
        self.open, self.ended, self.sizes, self.closed = [], [], {}, 0
        self.begun, self.stop_at = [], stop_at

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.open.append(context)
        self.begun.append(context.task_name)
        self.sizes.setdefault(context.task_name, context.max_subtasks)

    def on_fit_task_end(self, estimator, context):
        assert self.open.pop() is context  # what began last ends first
        self.ended.append((context.task_name, context.task_id))
        return self.stop_at == (context.task_name, context.task_id)

    def teardown(self, estimator, context):
        assert not self.open
        self.closed += 1

    def ticks(self, name):
        """Numbers of the steps of this name, in their order."""
        return [task for own, task in self.ended if own == name]


@pytest.fixture(scope="module")
def table():
    X, y, _ = make_ctr(400, n_fields=4, cardinality=4, pairs=1, ids="int", random_state=0)
    return X, y


TREE = DecisionTreeClassifier(max_depth=3, random_state=0)
BUDGET = {"max_evaluations": 12, "cv": 2, "random_state": 0}
SELECTORS = {
    "FSTD": FSTD(TREE, **BUDGET),
    "MARLFS": MARLFS(TREE, **BUDGET),
    "DualAgent": DualAgent(TREE, **BUDGET),
    "SensitivitySelector": SensitivitySelector(TREE, method="forward", **BUDGET),
    "RandomSubset": RandomSubset(TREE, **BUDGET),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_selectors_tell_of_each_subset(table, name):
    recorder = Recorder()
    found = SELECTORS[name].set_callbacks(recorder).fit(*table)
    assert recorder.ticks("evaluation") == list(range(found.n_evaluations_))
    assert recorder.sizes["search"] == 12 and recorder.closed == 1
    assert recorder.ended[-2:] == [("search", 0), ("fit", 0)]


@pytest.mark.parametrize("name", SELECTORS)
def test_selectors_can_be_stopped_and_fail_with_all_tasks_ended(table, name):
    recorder = Recorder(stop_at=("evaluation", 1))
    selector = SELECTORS[name].set_callbacks(recorder)
    with pytest.warns(UserWarning, match="a callback stopped the search after 2 evaluations"):
        assert selector.fit(*table).n_evaluations_ == 2

    class Failing(DecisionTreeClassifier):
        def fit(self, X, y, **params):
            raise ArithmeticError("no tree")

    recorder = Recorder()
    failing = clone(selector).set_params(estimator=Failing()).set_callbacks(recorder)
    with pytest.raises(ArithmeticError, match="no tree"):
        failing.fit(*table)
    assert recorder.closed == 1 and recorder.ended[-1] == ("fit", 0)
    assert not hasattr(failing, "_callback_fit_ctx") and not hasattr(failing, "support_")


def test_the_fit_of_a_selector_of_columns_is_that_of_its_search(table):
    inner = CTRClassifier(network="fm", search_epochs=2, device="cpu")
    bar = Propagated()
    FieldSelector(estimator=inner, network="fm", random_state=0).set_callbacks(bar).fit(*table)
    assert bar.ticks("epoch") == [0, 1, 0] and bar.closed == 1
    assert "search-AutoField" in bar.begun and "train" in bar.begun


class Propagated(Recorder):
    """The same, and of the models within."""

    max_propagation_depth = None


# crosses
# -------------------------------------------------------------------------------------------------


def test_autocross_tells_of_each_candidate(table):
    recorder = Recorder()
    plain = AutoCross(random_state=0, max_crosses=3, min_gain=0).fit(*table)
    found = AutoCross(random_state=0, max_crosses=3, min_gain=0).set_callbacks(recorder)
    out = found.fit_transform(*table)
    np.testing.assert_array_equal(out.to_numpy(), plain.transform(table[0]).to_numpy())
    steps = [sum(n for n, _ in record["rounds"]) for record in found.search_history_]
    ticks, n = recorder.ticks("candidate"), 0
    for step in steps:
        assert ticks[n : n + step] == list(range(step))
        n += step
    assert n and recorder.ticks("cross") == list(range(len(recorder.ticks("cross"))))
    assert recorder.sizes["search"] == 3 and recorder.closed == 1


def test_autocross_keeps_what_it_has_when_it_is_stopped(table, monkeypatch):
    whole = AutoCross(random_state=0, max_crosses=3, min_gain=0).fit(*table)
    assert len(whole.crosses_) > 1
    n = sum(n for n, _ in whole.search_history_[0]["rounds"])

    class Second(Recorder):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            return len(self.ticks("candidate")) == n + 1

    found = AutoCross(random_state=0, max_crosses=3, min_gain=0).set_callbacks(Second())
    assert found.fit(*table).crosses_ == whole.crosses_[:1]

    def fail(*args):
        raise ArithmeticError("no candidate")

    monkeypatch.setattr(_cross_search.CrossSearch, "_score_fully", fail)
    recorder = Recorder()
    with pytest.raises(ArithmeticError, match="no candidate"):
        AutoCross(random_state=0).set_callbacks(recorder).fit(*table)
    assert recorder.closed == 1 and recorder.ended[-3:] == [("cross", 0), ("search", 0), ("fit", 0)]


def test_aefe_tells_of_its_stages(table, monkeypatch):
    recorder = Recorder()
    options = {"n_pairs": 2, "max_epochs": 3, "cv": 2, "random_state": 0}
    plain = AEFE(**options).fit(*table)
    found = AEFE(**options).set_callbacks(recorder).fit(*table)
    assert found.stage_counts_ == plain.stage_counts_ and found.scores_.tolist() == (
        plain.scores_.tolist()
    )
    stages = [name for name, _ in recorder.ended if name in recorder.sizes]
    stages = [n for n in stages if n in ("pairs", "filter", "embedded", "wrapper", "fit")]
    assert stages == ["pairs", "filter", "embedded", "wrapper", "fit"]
    n_features = found.stage_counts_["constructed"]
    assert recorder.ticks("feature") == list(range(n_features)) and n_features
    assert recorder.sizes["filter"] == n_features
    for name in ("epoch", "evaluation"):
        assert recorder.ticks(name) == list(range(len(recorder.ticks(name)))) != []
    stopped = AEFE(**options).set_callbacks(Recorder(stop_at=("feature", 0))).fit(*table)
    assert len(stopped.scores_) == 0
    recorder = Recorder()
    failing = AEFE(**options, estimator=_NoFit()).set_callbacks(recorder)
    with pytest.raises(ArithmeticError, match="no model"):
        failing.fit(*table)
    assert recorder.closed == 1 and recorder.ended[-2:] == [("wrapper", 3), ("fit", 0)]


class _NoFit(LogisticRegression):
    def fit(self, X, y):
        raise ArithmeticError("no model")


def test_glider_tells_of_the_model_and_of_the_rows_it_explains(table, monkeypatch):
    monkeypatch.setattr(_glider, "INSTANCES_PER_JOB", 4)
    recorder = Propagated()
    model = CTRClassifier(network="fm", max_epochs=2, device="cpu", random_state=0)
    options = {"n_instances": 12, "n_perturbations": 50, "max_epochs": 3, "random_state": 0}
    plain = GLIDER(model, **options).fit(*table)
    found = GLIDER(model, **options).set_callbacks(recorder).fit(*table)
    assert found.interaction_scores_ == plain.interaction_scores_
    assert recorder.ticks("rows") == [0, 1, 2] and recorder.sizes["explain"] == 3
    assert recorder.ticks("epoch") == [0, 1] and recorder.closed == 1
    # A model that tells nothing is no reason to warn.
    recorder = Recorder()
    GLIDER(TREE, **options).set_callbacks(recorder).fit(*table)
    assert recorder.ticks("rows") == [0, 1, 2] and "fit-estimator" in recorder.begun

    def fail(*args):
        raise ArithmeticError("no row")

    monkeypatch.setattr(_glider, "strengths_of", fail)
    recorder = Recorder()
    with pytest.raises(ArithmeticError, match="no row"):
        GLIDER(TREE, **options).set_callbacks(recorder).fit(*table)
    assert recorder.closed == 1 and recorder.ended[-2:] == [("explain", 1), ("fit", 0)]


class Interrupting(Recorder):
    """The user stops the fit at the end of a step, the n-th of its name."""

    def __init__(self, name, n):
        super().__init__()
        self.name, self.n = name, n

    def on_fit_task_end(self, estimator, context):
        super().on_fit_task_end(estimator, context)
        if len(self.ticks(self.name)) == self.n:
            self.n = None
            raise KeyboardInterrupt


def interrupted(model, table, name, n):
    """The model that is left, and what was told until then."""
    recorder = Interrupting(name, n)
    with pytest.warns(UserWarning, match=f"{type(model).__name__}: the search was interrupted"):
        found = clone(model).set_callbacks(recorder).fit(*table)
    assert recorder.closed == 1 and recorder.ended[-1] == ("fit", 0)
    with pytest.raises(KeyboardInterrupt):  # when there is nothing to keep
        clone(model).set_callbacks(Interrupting(name, 1)).fit(*table)
    return found


def test_ctrl_c_leaves_the_crosses_so_far(table):
    model = AutoCross(random_state=0, max_crosses=3, min_gain=0)
    whole = clone(model).fit(*table)
    n = sum(n for n, _ in whole.search_history_[0]["rounds"])
    found = interrupted(model, table, "candidate", n + 1)
    assert found.crosses_ == whole.crosses_[:1] and found.transform(table[0]).shape[1] == 5


def test_ctrl_c_leaves_the_features_so_far(table):
    model = AEFE(n_pairs=4, max_epochs=3, cv=2, min_gain=0, patience=20, random_state=0)
    whole = clone(model).fit(*table)
    first = [record["taken"] for record in whole.search_history_].index(True)
    assert len(whole.search_history_) > first + 1
    found = interrupted(model, table, "evaluation", first + 3)
    assert found.features_ == whole.features_[: len(found.features_)] and len(found.scores_) == 1


def test_ctrl_c_leaves_the_rows_explained_so_far(table, monkeypatch):
    monkeypatch.setattr(_glider, "INSTANCES_PER_JOB", 4)
    model = GLIDER(TREE, n_perturbations=50, max_epochs=3, random_state=0, n_instances=12)
    recorder = Interrupting("rows", 2)
    with pytest.warns(UserWarning, match="interactions of 8 rows found so far"):
        found = clone(model).set_callbacks(recorder).fit(*table)
    assert recorder.closed == 1 and max(found.interaction_counts_.values()) <= 8
    stopped = clone(model).set_callbacks(Recorder(stop_at=("rows", 1))).fit(*table)
    assert stopped.interaction_scores_ == found.interaction_scores_

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_glider, "strengths_of", stop)
    with pytest.raises(KeyboardInterrupt):
        clone(model).fit(*table)


@pytest.mark.parametrize("name", SELECTORS)
def test_ctrl_c_leaves_the_best_subset_so_far(table, name):
    found = clone(SELECTORS[name]).set_callbacks(Interrupting("evaluation", 2))
    with pytest.warns(UserWarning, match="interrupted after 2 evaluations"):
        assert found.fit(*table).support_.any()


# estimators and searches
# -------------------------------------------------------------------------------------------------


def test_estimators_that_fail_have_ended_all_tasks(table):
    X, y = table
    calls = []

    def loss(predicted, target):
        calls.append(1)
        if len(calls) == 7:
            raise ArithmeticError("no loss")
        return (predicted - target) ** 2

    recorder = Recorder()
    with pytest.raises(ArithmeticError, match="no loss"):
        quick(loss=loss, batch_size=100).set_callbacks(recorder).fit(X, y)
    assert recorder.closed == 1
    assert recorder.ended == [("epoch", 0), ("train", 0), ("fit", 0)]
    recorder = Recorder()
    quick().set_callbacks(recorder).fit(X, y)
    assert recorder.ticks("epoch") == [0, 1] and recorder.ended[-1] == ("fit", 0)


OPTIONS = {"cv": 2, "random_state": 0, "refit": True}
SPACE = {"C": uniform(0.1, 3)}
LINEAR = LogisticRegression(max_iter=20, warm_start=True)
SEARCHES = {
    "halving": lambda est: SuccessiveHalvingSearchCV(
        est, SPACE, resource="n_samples", min_resources=60, max_resources=180, **OPTIONS
    ),
    "Hyperband": lambda est: HyperbandSearchCV(
        est, SPACE, resource="n_samples", min_resources=60, max_resources=180, **OPTIONS
    ),
    "evolution": lambda est: RegularizedEvolutionSearchCV(est, SPACE, n_iter=6, **OPTIONS),
    "Bayes": lambda est: BayesSearchCV(est, SPACE, n_iter=5, **OPTIONS),
    "population": lambda est: PopulationSearchCV(
        est, SPACE, resource="max_iter", population=3, n_steps=2, **{**OPTIONS, "refit": False}
    ),
}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_searches_tell_of_each_evaluation_and_end_all_tasks(table, name):
    recorder = Recorder()
    found = SEARCHES[name](LINEAR).set_callbacks(recorder).fit(*table)
    batches = recorder.ticks("batch")
    assert batches == list(range(len(batches))) and recorder.closed == 1
    n = len(recorder.ticks("candidate-split-evaluation"))
    assert n == 2 * len(found.cv_results_["params"])
    recorder = Recorder()
    failing = SEARCHES[name](_NoFit()).set_params(error_score="raise").set_callbacks(recorder)
    with pytest.raises(ArithmeticError, match="no model"):
        failing.fit(*table)
    assert recorder.closed == 1
    assert recorder.ended[-3:] == [("batch", 0), ("search", 0), ("fit", 0)]


def test_progress_bars_are_drawn_for_transformers(table, capsys):
    pytest.importorskip("rich", reason="progress bars need rich")
    for model in (
        AutoCross(random_state=0, max_crosses=1),
        SELECTORS["FSTD"],
        FieldSelector(
            estimator=CTRClassifier(network="fm", search_epochs=1, device="cpu"), network="fm"
        ),
    ):
        model.set_callbacks(callback.ProgressBar()).fit(*table)
        shown = capsys.readouterr().out
        assert type(model).__name__ in shown and "search" in shown
