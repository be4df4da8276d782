"""Plans of blocks: who chooses what, when arms are dropped, where alternating helps and where it is
stuck.
"""

import pickle

import numpy as np
import pytest
from joblib import parallel_config
from known_curves import columns
from known_functions import UNIT, Branin, drive, needed
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.model_selection import Alternating, Conditioning, Joint, PlanSearchCV
from sklearn_autorec.model_selection._plans._plan_nodes import Arms, Leaf, Node, Turns, slope

X, Y = load_wine(return_X_y=True)
SPACE = {
    "net": ["fm", "deepfm"],
    "net__lr": stats.loguniform(1e-4, 1),
    "select__k": stats.randint(1, 6),
    "cross__n": [0, 5],
}
PLANS = {
    1: Joint(),
    2: Conditioning("net", Joint()),
    3: Alternating(Joint("select__*", "cross__*"), Joint()),
    4: Alternating(Joint("select__*", "cross__*"), Conditioning("net", Joint())),
    5: Conditioning("net", Alternating(Joint("select__*", "cross__*"), Joint())),
}


def plan_search(plan, space=SPACE, **options):
    return PlanSearchCV(None, space, plan=plan, **{"sampler": "random", "n_iter": 40, **options})


def blocks(rows):
    return [trial.columns["block"] for trial, _ in rows]


def smooth(net, net__lr, select__k, cross__n):
    return (net == "fm") - (np.log10(net__lr) + 2) ** 2 - (select__k - 3) ** 2 + cross__n / 5


# Which block has which parameters


@pytest.mark.parametrize("number", PLANS)
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_five_plans_of_the_paper(number, sampler):
    rows = drive(plan_search(PLANS[number], sampler=sampler), smooth, 0)
    assert len(rows) == 40 and all(trial.params.keys() == SPACE.keys() for trial, _ in rows)
    assert max(score for _, score in rows) > 0
    expected = {
        1: {"Joint()"},
        2: {"net=fm/Joint()", "net=deepfm/Joint()"},
        3: {"start", "Joint(select__*, cross__*)", "Joint()"},
        4: {"start", "Joint(select__*, cross__*)", "net=fm/Joint()", "net=deepfm/Joint()"},
        5: {
            f"net={net}/{b}"
            for net in ("fm", "deepfm")
            for b in ("start", "Joint(select__*, cross__*)", "Joint()")
        },
    }
    found = set(blocks(rows))
    assert found <= expected[number] and found >= {
        name for name in expected[number] if "deepfm" not in name
    }
    for trial, _ in rows:
        if trial.columns["block"].startswith("net="):
            assert trial.columns["block"].startswith(f"net={trial.params['net']}/")


def test_alternating_holds_the_others_at_their_best():
    rows = drive(plan_search(PLANS[3]), smooth, 0)
    mine = {"Joint(select__*, cross__*)": ("select__k", "cross__n"), "Joint()": ("net", "net__lr")}
    best, best_score = None, -np.inf
    for trial, score in rows:
        own = mine.get(trial.columns["block"], SPACE)
        if best is not None:
            assert all(trial.params[name] == best[name] for name in SPACE if name not in own)
        if score > best_score:
            best, best_score = trial.params, score


def test_each_choice_may_have_parameters_of_its_own():
    space = [
        {"model": ["a"], "model__x": UNIT, "select__k": [1, 2]},
        {"model": ["b", "c"], "model__y": UNIT, "select__k": [1, 2]},
        {"model": ["a"], "model__z": UNIT, "select__k": [1, 2]},
        {"model": [None], "select__k": [1, 2]},
    ]
    rows = drive(plan_search(Conditioning("model", Joint()), space, n_iter=60), lambda **p: 0.0, 0)
    seen = {
        (t.params["model"], tuple(sorted(t.params.keys() - {"model", "select__k"})))
        for t, _ in rows
    }
    assert seen == {
        ("a", ("model__x",)),
        ("a", ("model__z",)),
        ("b", ("model__y",)),
        ("c", ("model__y",)),
        (None, ()),
    }
    # There are two, each tried once.
    assert sum(block == "model=None/Joint()" for block in blocks(rows)) == 2

    by_arm = drive(
        plan_search(
            Conditioning("model", Alternating(Joint("select__*"), Joint("model__*"))), space[1:2]
        ),
        lambda model__y, **p: model__y,
        0,
    )
    assert {t.params["model"] for t, _ in by_arm} == {"b", "c"}


def test_values_that_are_equal_but_of_other_types_are_arms_of_their_own():
    rows = drive(
        plan_search(Conditioning("a", Joint()), {"a": [1, True, 1.0], "b": UNIT}, n_iter=6),
        lambda **p: 0,
        0,
    )
    assert len(set(blocks(rows))) == 3
    models = [GaussianNB(), GaussianNB()]
    rows = drive(
        plan_search(Conditioning("a", Joint()), {"a": models, "b": UNIT}, n_iter=4),
        lambda **p: 0,
        0,
    )
    assert set(blocks(rows)) == {"a=GaussianNB#0/Joint()", "a=GaussianNB#1/Joint()"}
    assert [t.params["a"] for t, _ in rows] == [models[0], models[1]] * 2


NAMES = r"\['cross__n', 'net', 'net__lr', 'select__k'\]"


@pytest.mark.parametrize(
    ("plan", "space", "message"),
    [
        (
            Joint("selct__*"),
            SPACE,
            rf"'selct__\*' of Joint\('selct__\*'\) is no parameter .*; there are {NAMES}",
        ),
        (
            Conditioning("nett", Joint()),
            SPACE,
            rf"'nett' of Conditioning.* is no parameter .*; there are {NAMES}",
        ),
        (
            Joint("net*"),
            SPACE,
            r"must be in one block of the plan, but 'cross__n' is in no block.*Joint\(\) takes",
        ),
        (
            Alternating(Joint("net*"), Joint("*")),
            SPACE,
            r"but 'net' is in 2 blocks, \[Joint\('net\*'\), Joint\('\*'\)\]",
        ),
        (Alternating(Joint(), Joint()), SPACE, r"only one Joint\(\) without names .*, got 2"),
        (Conditioning("net", Joint("net", "*__*")), SPACE, r"'net' is in 2 blocks"),
        (
            Conditioning("net__lr", Joint()),
            SPACE,
            r"needs a list of values, but param_distributions\['net__lr'\] is a",
        ),
        (
            Conditioning("a", Joint()),
            [{"a": [1], "b": [1]}, {"b": [2]}],
            r"needs 'a' in every dict of param_distributions; one has only \['b'\]",
        ),
        (
            Alternating(Joint("a"), Joint("b")),
            [{"a": [1], "b": [1]}, {"a": [2], "b": [2]}],
            r"would mix the 2 dicts .*; allowed is one dict, or a Conditioning",
        ),
        (
            Conditioning("a", Joint()),
            {"a": []},
            r"param_distributions\['a'\] must be a non-empty list",
        ),
        (
            Joint(),
            {"a": "relu"},
            r"param_distributions\['a'\] must be a non-empty list .*got 'relu'",
        ),
    ],
)
def test_plans_that_do_not_fit_are_refused(plan, space, message, tmp_path):
    search = PlanSearchCV(
        GaussianNB(), space, plan=plan, sampler="random", checkpoint=tmp_path / "new"
    )
    with pytest.raises(ValueError, match=message):
        search.fit(X, Y)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Joint(3), r"Joint takes names of parameters such as 'select__\*', got \(3,\)"),
        (
            lambda: Joint(sampler="smac"),
            r"sampler of Joint must be None or one of \['gp', 'random', 'tpe'\], got 'smac'",
        ),
        (
            lambda: Conditioning("net", "net__*"),
            r"block of Conditioning must be Joint, .*, got 'net__\*'",
        ),
        (
            lambda: Conditioning(Joint(), Joint()),
            r"name of Conditioning must be the name of a parameter, got Joint\(\)",
        ),
        (
            lambda: Conditioning("net", Joint(), window=1),
            r"window of Conditioning must be an integer >= 2, got 1",
        ),
        (lambda: Alternating(Joint()), r"Alternating takes two blocks or more, got 1"),
        (
            lambda: Alternating(Joint(), "*"),
            r"each block of Alternating must be Joint, .*, got '\*'",
        ),
        (
            lambda: Alternating(Joint(), Joint(), window=True),
            r"window of Alternating must be an integer >= 2, got True",
        ),
        (
            lambda: PlanSearchCV(GaussianNB(), SPACE, plan="joint").fit(X, Y),
            r"'plan' parameter of PlanSearchCV must be .* Got 'joint'",
        ),
        (
            lambda: PlanSearchCV(GaussianNB(), SPACE, n_iter=None).fit(X, Y),
            r"n_iter=None needs max_time, in seconds; got max_time=None",
        ),
    ],
)
def test_blocks_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_blocks_are_values():
    plan = Conditioning(
        "net", Alternating(Joint("select__*", sampler="gp"), Joint(), window=3), window=6
    )
    again = eval(repr(plan))
    assert again == plan == pickle.loads(pickle.dumps(plan)) and again is not plan
    assert plan != Conditioning("net", Alternating(Joint("select__*"), Joint(), window=3), window=6)
    assert Joint() != "Joint()"


# Blocks against hand-made arms


class Script(Node):
    """A node that scores what a list says."""

    def __init__(self, path, scores):
        super().__init__(path)
        self.scores = list(scores)
        self.n_startup = 1

    @property
    def exhausted(self):
        return not self.scores

    def ask(self, n):
        return [({"score": self.scores.pop(0)}, self.path)]

    def tell(self, scored, left):
        self._note(scored)


def pull(node, left):
    asked = node.ask(1)
    node.tell([(params, params["score"]) for params, _ in asked], left)
    return asked[0][1]


def test_slope_divides_gains_by_their_number():
    assert slope([0.0, 1.0, 3.0], 4) == np.inf
    assert slope([0.0, 1.0, 3.0, 6.0], 4) == 2.0
    assert slope([-9.0, 0.0, 1.0, 3.0, 6.0], 4) == 2.0
    assert slope([-np.inf] * 4, 4) == 0.0
    assert slope([-np.inf, 0.0, 0.0, 0.0], 4) == np.inf


@pytest.mark.parametrize("window", [2, 4, 7])
def test_a_dominated_arm_is_dropped_after_the_window(window):
    """It stands still below another: dropped after ``window`` pulls of each arm, no sooner and no
    later.
    """
    arms = [
        (0, Script("good", [0.9] * 50)),
        (1, Script("bad", [0.5] * 50)),
        (2, Script("also", [0.9] * 50)),
    ]
    node = Arms("", "arm", arms, window)
    order = [pull(node, 40) for _ in range(3 * window + 4)]
    assert order[: 3 * window] == ["good", "bad", "also"] * window
    assert order[3 * window :] == ["good", "also"] * 2  # a tie goes on
    assert node.dropped == {"bad": window}


@pytest.mark.parametrize(("left", "dropped"), [(30, {}), (10, {"climbing": 4})])
def test_an_arm_that_can_catch_up_stays(left, dropped):
    """0.05 a pull from 0.15: with 30 pulls left its bound is 1.65, with 10 it is 0.65,
    below 0.9.
    """
    arms = [(0, Script("good", [0.9] * 50)), (1, Script("climbing", np.arange(50) * 0.05))]
    node = Arms("", "arm", arms, 4)
    for _ in range(8):
        pull(node, left)
    assert node.dropped == dropped


def test_scores_may_have_any_scale():
    """Negative losses far from 1: no bound is cut."""
    arms = [
        (0, Script("good", np.linspace(-50, -49, 50))),
        (1, Script("climbing", -2000 + 100.0 * np.arange(50))),
    ]
    node = Arms("", "arm", arms, 4)
    for _ in range(8):
        pull(node, 30)
    assert node.dropped == {}  # -1700 + 30 * 100 is above -50


def test_an_arm_that_fails_is_dropped():
    arms = [(0, Script("good", [0.1] * 50)), (1, Script("fails", [-np.inf] * 50))]
    node = Arms("", "arm", arms, 4)
    for _ in range(9):
        pull(node, np.inf)
    assert node.dropped == {"fails": 4} and node.best == {"arm": 0, "score": 0.1}


def test_an_arm_that_has_tried_everything_rests():
    arms = [(0, Script("two", [0.5, 0.6])), (1, Script("many", np.linspace(0, 1, 50)))]
    node = Arms("", "arm", arms, 4)
    order = [pull(node, 1000) for _ in range(6)]
    assert order == ["two", "many", "two", "many", "many", "many"] and not node.exhausted


def test_the_block_that_gains_is_next():
    """After four pulls of each, the one that still gains has the turn until it stands still; of
    equals who waited.
    """
    gains = [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8]
    node = Turns("", [Script("still", [0.0] * 50), Script("gains", gains)], 4)
    node.best, node.curve, node.n_begun = {}, [0.0], 1
    for k, script in enumerate(node.nodes):
        script.best, script.curve = {"score": 0.0}, [0.0]
        node.order[k] = k
    order = [pull(node, 50) for _ in range(17)]
    assert order[:6] == ["still", "gains"] * 3
    assert order[6:15] == ["gains"] * 9  # until the last four of its scores are equal
    assert order[15:] == ["still", "gains"]


def test_scores_move_with_the_other_block():
    """f(x) + g(y): what the sampler of x has been told are values of f, but for a constant,
    whatever y was.
    """

    class Told:
        left, n_startup = np.inf, 3

        def __init__(self, name):
            self.name, self.random_state, self.told = name, np.random.RandomState(len(name)), []

        def ask(self, n):
            return [{self.name: self.random_state.uniform()} for _ in range(n)]

        def tell(self, params, score):
            self.told.append((params[self.name], score))

        def forget(self, but):
            assert but is not None

    x, yy = Leaf("x", Told("x")), Leaf("yy", Told("yy"))
    node = Turns("", [x, yy], 4)
    for _ in range(30):
        asked = node.ask(2)
        node.tell([(p, np.sin(9 * p["x"]) + 5 * np.cos(7 * p["yy"])) for p, _ in asked], 30)
    for leaf, function in ((x, lambda v: np.sin(9 * v)), (yy, lambda v: 5 * np.cos(7 * v))):
        values, scores = np.array(leaf.sampler.told).T
        values, scores = values[4:], scores[4:]  # the start was with other partners
        assert len(values) > 10 and np.ptp(scores - function(values)) < 1e-9
        assert leaf.score == pytest.approx(node.score)


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
