"""PlanSearchCV: planted truth, and the search estimator."""

import pickle

import numpy as np
from joblib import parallel_config
from known_curves import columns
from known_functions import UNIT, Branin, drive, needed
from plan_cases import PLANS, X, Y, plan_search, smooth
from scipy import stats
from sklearn.base import clone
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.model_selection import Alternating, Conditioning, Joint, PlanSearchCV


# Planted truth
def test_alternating_needs_fewer_trials_where_parts_add_up():
    """Six parameters of four values, one good each: 110 random trials in the median, jointly more
    than 300.
    """

    def function(**p):
        return sum(value == int(name[1:]) % 4 for name, value in p.items())

    space = {f"{part}{i}": [0, 1, 2, 3] for part in "xy" for i in range(3)}
    trials = {}
    for plan in (Joint(), Alternating(Joint("x*"), Joint("y*"))):
        runs = [drive(plan_search(plan, space, n_iter=300), function, seed) for seed in range(10)]
        trials[type(plan)] = [needed(rows, 6) for rows in runs]
    assert np.median(trials[Alternating]) < 0.5 * np.median(trials[Joint])


def test_alternating_is_stuck_where_only_both_help_and_conditioning_is_not():
    """With a = 1 a large x is best, with a = 0 a small one: neither change alone leads from 0.8 to
    1.
    """

    def function(a, x, y):
        return (0.8 - 0.04 * x if a == 0 else 1 - 0.1 * (9 - x)) - 0.004 * y

    space = {"a": [0, 1], "x": list(range(10)), "y": list(range(10))}
    found = {}
    for plan in (Alternating(Joint("a"), Joint()), Conditioning("a", Joint(), window=10)):
        runs = [drive(plan_search(plan, space, n_iter=60), function, seed) for seed in range(10)]
        found[type(plan)] = sum(needed(rows, 0.9) <= 60 for rows in runs)
    assert found[Alternating] <= 5 and found[Conditioning] == 10


def test_conditioning_spends_on_the_good_arms():
    """Nine hopeless values of ten: each gets its four pulls, the good one the rest."""
    space = {"arm": list(range(10)), "x": UNIT}
    rows = drive(
        plan_search(Conditioning("arm", Joint()), space, n_iter=100),
        lambda arm, x: (arm == 7) + x / 10,
        0,
    )
    pulls = np.bincount([trial.params["arm"] for trial, _ in rows])
    assert pulls[7] > 45 and (np.delete(pulls, 7) >= 4).all() and np.median(np.delete(pulls, 7)) < 8


def test_a_search_ends_when_all_is_tried():
    space = {"a": [0, 1, 2], "b": [0, 1, 2]}
    rows = drive(plan_search(Alternating(Joint("a"), Joint("b")), space), lambda a, b: a + b, 0)
    assert len(rows) < 9 and rows[-1][0].params.keys() == {"a", "b"}
    assert max(score for _, score in rows) == 4
    one = {"a": [0], "b": [0]}
    assert (
        len(
            drive(
                plan_search(Alternating(Joint("a"), Joint("b")), one, sampler="tpe"),
                lambda a, b: 0,
                0,
            )
        )
        == 1
    )
    assert len(drive(plan_search(Conditioning("a", Joint()), space), lambda a, b: 0, 0)) == 9
    assert len(drive(plan_search(None, space, n_iter=None), lambda a, b: 0, 0)) == 9


def test_failures_do_not_end_a_plan():
    def function(net, **p):
        return -np.inf if net == "deepfm" else smooth(net, **p)

    for plan in PLANS.values():
        rows = drive(plan_search(plan, batch_size=3), function, 0)
        assert max(score for _, score in rows) > 0
    assert len(drive(plan_search(PLANS[5]), lambda **p: -np.inf, 0)) == 40


# The search estimator
PIPE = Pipeline([("scale", StandardScaler()), ("select", SelectKBest()), ("model", GaussianNB())])

TREE, LOGISTIC = DecisionTreeClassifier(random_state=0), LogisticRegression(max_iter=1000)

FEATURES = {"scale": [StandardScaler(), MinMaxScaler()], "select__k": stats.randint(1, 14)}

WINE = [
    {**FEATURES, "model": [LOGISTIC], "model__C": stats.loguniform(1e-2, 1e2)},
    {**FEATURES, "model": [TREE], "model__max_depth": [1, 2, 4, None]},
]

NESTED = Conditioning(
    "model", Alternating(Joint("scale", "select__*"), Joint("model__*")), window=3
)


def wine(**options):
    options = {"n_iter": 24, "batch_size": 2, "cv": 3, "random_state": 0, **options}
    return PlanSearchCV(PIPE, WINE, plan=NESTED, **options)


def test_two_workers_and_a_resumed_search_find_what_one_finds(tmp_path):
    one = wine().fit(X, Y)
    with parallel_config("threading"):
        two = wine(n_jobs=2).fit(X, Y)
    assert repr(columns(one)) == repr(columns(two)) and one.blocks_ == two.blocks_
    again = wine(checkpoint=tmp_path).fit(X, Y)
    files = sorted(tmp_path.glob("evaluation-*"))
    assert len(files) == 72
    for file in files[31:]:  # as if it had been killed then
        file.unlink()
    resumed = wine(checkpoint=tmp_path).fit(X, Y)
    assert (
        repr(columns(one)) == repr(columns(again)) == repr(columns(resumed))
        and resumed.blocks_ == one.blocks_
    )


def test_all_trials_are_in_one_table():
    search = wine().fit(X, Y)
    results, block = search.cv_results_, search.cv_results_["block"]
    assert len(block) == 24 and search.best_score_ == results["mean_test_score"].max() > 0.95
    assert (
        search.score(X, Y) > 0.95
        and (pickle.loads(pickle.dumps(search)).predict(X) == search.predict(X)).all()
    )
    for path, entry in search.blocks_.items():
        rows = [k for k, b in enumerate(block) if b == path or b.startswith(path + "/")]
        assert entry["n_candidates"] == len(rows)
        assert entry["best_score"] == results["mean_test_score"][rows].max()
    arms = {path: entry for path, entry in search.blocks_.items() if "/" not in path}
    assert arms.keys() == {"model=LogisticRegression#0", "model=DecisionTreeClassifier#1"}
    assert arms["model=LogisticRegression#0"]["dropped_after"] is None
    fresh = clone(search)
    assert fresh.plan == NESTED and not hasattr(fresh, "blocks_")
    assert not hasattr(TREE, "tree_") and not hasattr(LOGISTIC, "coef_")


def test_joint_is_the_default_and_each_may_have_a_sampler():
    search = PlanSearchCV(Branin(), {"x": UNIT, "y": UNIT}, n_iter=3, cv=2).fit(X)
    assert (
        set(search.cv_results_["block"]) == {"Joint()"}
        and search.blocks_["Joint()"]["n_candidates"] == 3
    )
    plan = Alternating(Joint("x", sampler="tpe"), Joint("y", sampler="random"))
    nodes = plan_search(plan, {"x": UNIT, "y": UNIT})._build(np.random.RandomState(0)).root.nodes
    assert [type(node.sampler).__name__ for node in nodes] == ["TPESampler", "UniformSampler"]


def test_time_is_a_budget():
    search = PlanSearchCV(
        Branin(), {"x": UNIT, "y": UNIT}, n_iter=None, max_time=0.3, cv=2, sampler="random"
    ).fit(X)
    assert search.stopped_ == "max_time" and len(search.cv_results_["params"]) > 3
