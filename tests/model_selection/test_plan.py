"""Plans of blocks: who chooses what, when arms are dropped, where alternating helps and where it is
stuck.
"""

import pickle

import numpy as np
import pytest
from known_functions import UNIT, drive
from plan_cases import PLANS, SPACE, X, Y, plan_search, smooth
from sklearn.naive_bayes import GaussianNB

from sklearn_autorec.model_selection import Alternating, Conditioning, Joint, PlanSearchCV
from sklearn_autorec.model_selection._plans._plan_nodes import Arms, Leaf, Node, Turns, slope


def blocks(rows):
    return [trial.columns["block"] for trial, _ in rows]


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
