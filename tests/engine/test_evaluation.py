"""Candidates of a generator: evaluated once each, alike with any number of workers, kept on
Ctrl-C.
"""

import json
import math
import pickle
import time
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import FitFailedWarning

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import (
    EncodedTensors,
    HeldOutScore,
    SearchProblem,
    TrainingPlan,
    _evaluation,
)
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.inspection import SearchHistoryDisplay
from sklearn_autorec.interaction import RandomInteractions
from sklearn_autorec.interaction._products import KeptProducts
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext
from sklearn_autorec.serving import load, save

OPTIONS = {
    "network": "fm",
    "embedding_dim": 4,
    "lr": 0.02,
    "max_epochs": 1,
    "batch_size": 64,
    "random_state": 0,
    "device": "cpu",
    "early_stopping": False,
    "wide": None,
    "target_statistics": False,
}


class PairByPair(SearchMethod):
    """Each pair alone, in batches of two, then the best one with each of the others."""

    slot = "interaction"

    def __init__(self, n_jobs=None, max_time=None, max_evaluations=None, retrain="scratch"):
        self.n_jobs = n_jobs
        self.max_time = max_time
        self.max_evaluations = max_evaluations
        self.retrain = retrain

    def policy(self, problem):
        n = problem.context.n_fields
        pairs = [[i, j] for i in range(n) for j in range(i + 1, n)]
        scores = []
        for start in range(0, len(pairs), 2):
            scores += yield [{"interactions": [pair]} for pair in pairs[start : start + 2]]
        best = pairs[int(np.argmax(scores))]
        # The best one alone is among them, and is not evaluated again.
        yield [{"interactions": sorted([best, p]) if p != best else [best]} for p in pairs]

    def search(self, problem):
        evaluations = problem.evaluate(
            self.policy(problem),
            score=HeldOutScore(self.realise),
            n_jobs=self.n_jobs,
            max_time=self.max_time,
            max_evaluations=self.max_evaluations,
        )
        return evaluations.best

    def realise(self, architecture, context):
        return KeptProducts(architecture["interactions"], context)


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(1500, n_fields=4, cardinality=6, pairs=[(1, 3)], random_state=0)[:2]


def fit(search, clicks, **options):
    return CTRClassifier(search=search, **{**OPTIONS, **options}).fit(*clicks)


def problem_of(n_rows=40, on_epoch=None):
    generator = torch.Generator().manual_seed(0)
    data = EncodedTensors(
        torch.randint(0, 5, (n_rows, 3), dtype=torch.int32, generator=generator),
        torch.zeros(n_rows, 0),
        torch.zeros(n_rows, 0, dtype=torch.int32),
        (torch.arange(n_rows) % 2).float(),
    )
    context = BuildContext(("a", "b", "c"), (5, 5, 5), embedding_dim=2, output_bias=(0.0,))
    plan = TrainingPlan(epochs=1, batch_size=8)
    return SearchProblem(
        FM(), context, ("interaction",), dict, BinaryLogLoss(), data, plan, "cpu", on_epoch
    )


def numbers(*batches):
    """A policy that asks for numbers, and what it was told."""
    told = []

    def policy():
        for batch in batches:
            told.append((yield [{"x": x} for x in batch]))

    return policy(), told


def by_x(problem, architecture):
    return architecture["x"]


def test_scores_come_in_the_order_of_the_candidates_and_none_is_evaluated_twice():
    seen = []

    def score(problem, architecture):
        seen.append(architecture["x"])
        return -abs(architecture["x"] - 3)

    problem = problem_of()
    policy, told = numbers([5, 2], [2, 3, 3], [3, 3, 4])
    evaluations = problem.evaluate(policy, score=score)
    assert seen == [5, 2, 3, 4] == [a["x"] for a in evaluations.architectures]
    assert told == [[-2, -1], [-1, 0, 0], [0, 0, -1]]
    assert evaluations.scores == [-2, -1, 0, -1] and evaluations.stopped == "finished"
    assert evaluations.best == {"x": 3}
    assert problem.history == [
        {
            "slot": "interaction",
            "candidate": k,
            "score": s,
            "architecture": {"x": x},
        }
        for k, (x, s) in enumerate(zip(seen, evaluations.scores, strict=True), 1)
    ]
    assert not problem.interrupted


def test_the_order_of_keys_and_the_kind_of_lists_make_no_other_candidate():
    seen = []

    def policy():
        yield [{"a": [1, 2], "b": None}, {"b": None, "a": (1, 2)}]

    problem_of().evaluate(policy(), score=lambda problem, architecture: len(seen.append(1) or seen))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "candidate", [[1], {"x": {1, 2}}, {"x": math.nan}, {"x": np.zeros(2)}], ids=str
)
def test_a_candidate_that_is_not_plain_is_refused(candidate):
    with pytest.raises(TypeError, match="a candidate must"):
        problem_of().evaluate((batch for batch in [[candidate]]), score=by_x)


def test_evaluations_and_time_are_limited():
    policy, told = numbers([1, 2], [3, 4], [5])
    evaluations = problem_of().evaluate(policy, score=by_x, max_evaluations=3)
    assert evaluations.scores == [1, 2, 3] and evaluations.stopped == "max_evaluations"
    assert told == [[1, 2]]
    policy, _ = numbers([1, 2, 3])
    exact = problem_of().evaluate(policy, score=by_x, max_evaluations=3)
    assert exact.stopped == "finished"

    def slow(problem, architecture):
        time.sleep(0.05)
        return architecture["x"]

    policy, _ = numbers([1, 2], range(3, 100))
    evaluations = problem_of().evaluate(policy, score=slow, max_time=0.12)
    assert evaluations.stopped == "max_time" and 2 <= len(evaluations.scores) <= 4
    policy, _ = numbers([1, 2])
    assert problem_of().evaluate(policy, score=slow, max_time=0.0).scores == [1]


def test_a_callback_stops():
    policy, _ = numbers([1, 2, 3])
    problem = problem_of(on_epoch=lambda number, record: record["candidate"] == 2)
    evaluations = problem.evaluate(policy, score=by_x)
    assert evaluations.scores == [1, 2] and evaluations.stopped == "callback"


def failing(problem, architecture):
    if architecture["x"] == 2:
        raise RuntimeError("two is too many")
    return math.inf if architecture["x"] == 3 else architecture["x"]


def test_failures_have_no_score_and_are_told(tmp_path):
    policy, told = numbers([1, 2, 3], [2, 0])
    with pytest.warns(FitFailedWarning) as caught:
        problem = problem_of()
        evaluations = problem.evaluate(policy, score=failing)
    messages = [str(w.message) for w in caught]
    assert len(messages) == 2 and "two is too many" in messages[0] and "inf" in messages[1]
    np.testing.assert_array_equal(evaluations.scores, [1, np.nan, np.nan, 0])
    np.testing.assert_array_equal(told[1], [np.nan, 0])
    assert evaluations.best == {"x": 1}
    model = fit(RandomInteractions(), make_ctr(50, n_fields=3, pairs=1, random_state=0)[:2])
    model.search_history_ = problem.history
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(
        [r["score"] for r in load(tmp_path / "model").search_history_], evaluations.scores
    )


def test_nothing_but_failures_is_an_error():
    policy, _ = numbers([2])
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match="All the 1 candidates failed(.|\n)*two is too many"),
    ):
        problem_of().evaluate(policy, score=failing)
    with pytest.raises(ValueError, match="asked for no candidate"):
        problem_of().evaluate((batch for batch in []), score=by_x)


def test_a_policy_that_goes_in_circles_ends(monkeypatch):
    monkeypatch.setattr(_evaluation, "STALLED", 5)

    def policy():
        while True:
            yield [{"x": 1}]

    with pytest.raises(RuntimeError, match="nothing new in 5 batches"):
        problem_of().evaluate(policy(), score=by_x)


def test_candidates_start_alike_and_leave_the_problem_alone():
    problem = problem_of()
    problem.context.generator.manual_seed(7)

    def draw(own, architecture):
        assert own is not problem and own.history == [] and own.on_epoch is None
        own.history.append(1)
        architecture["x"] = 100
        return float(torch.rand(1, generator=own.context.generator))

    policy, told = numbers([1, 2], [3])
    evaluations = problem.evaluate(policy, score=draw)
    assert len(set(evaluations.scores)) == 1 and evaluations.scores[0] > 0
    assert [a["x"] for a in evaluations.architectures] == [1, 2, 3]
    assert len(problem.history) == 3
    # Only what the policy draws moves the problem's own generator.
    again = torch.Generator().manual_seed(7)
    assert torch.equal(
        torch.rand(1, generator=problem.context.generator), torch.rand(1, generator=again)
    )


def test_the_held_out_score_is_the_loss_of_rows_that_do_not_train():
    problem = problem_of(200)
    score = HeldOutScore(PairByPair().realise, fraction=0.25, train_share=0.5, lr=0.1)
    sizes = []
    train = problem.train

    def spy(*args, **kwargs):
        sizes.append((len(kwargs["rows"]), kwargs["lr"]))
        results.append(train(*args, **kwargs))
        return results[-1]

    results: list = []
    problem.train = spy
    value = score(problem, {"interactions": [[0, 1]]})
    trained, judging = score.rows(problem)
    assert sizes == [(75, 0.1)] and len(judging) == 50
    assert not set(trained.tolist()) & set(judging.tolist())
    rows = problem.data.select(judging)
    module = results[0].net.module_.eval()
    with torch.no_grad():
        p = torch.sigmoid(module(**rows.inputs))[:, 0]
    y = rows.y
    loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert value == pytest.approx(-float(loss), rel=1e-5)

    table = np.full((15, 2), 0.5, np.float32)
    still = HeldOutScore(score.realise, start={"embedding.weight": table}, epochs=0, lr=0.1)
    still(problem, {"interactions": [[0, 1]]})
    assert (results[-1].net.module_.embedding.weight == 0.5).all()


def test_a_search_by_candidates_finds_the_planted_pair_with_one_worker_and_with_two(clicks):
    models = {n_jobs: fit(PairByPair(n_jobs), clicks) for n_jobs in (1, 2)}
    one, two = models.values()
    assert [1, 3] in one.architecture_["interaction"]["interactions"]
    assert one.search_history_ == two.search_history_ and len(one.search_history_) == 11
    assert [r["candidate"] for r in one.search_history_] == list(range(1, 12))
    np.testing.assert_array_equal(one.predict_proba(clicks[0]), two.predict_proba(clicks[0]))
    assert json.loads(json.dumps(one.search_history_)) == one.search_history_
    again = pickle.loads(pickle.dumps(one))
    assert again.search_history_ == one.search_history_
    display = SearchHistoryDisplay(one.search_history_, one.history_)
    assert display.runs() == [("interaction", 1, 11), ("final training", 12, 12)]
    assert display.figures() == ["score"]


def test_the_best_candidate_leaves_its_weights():
    states = {}

    def score(problem, architecture):
        value = HeldOutScore(PairByPair().realise)(problem, architecture)
        states[str(architecture["interactions"])] = (problem.initial_state, problem.final_state)
        return value

    problem = problem_of(200)
    evaluations = problem.evaluate(PairByPair().policy(problem), score=score)
    initial, final = states[str(evaluations.best["interactions"])]
    assert problem.initial_state is initial and problem.final_state is final
    assert not torch.equal(initial["embedding.weight"], final["embedding.weight"])
    firsts = [start["embedding.weight"] for start, _ in states.values()]
    assert all(torch.equal(first, firsts[0]) for first in firsts) and len(firsts) > 3


def interrupt_at(number, inside):
    """A score that presses Ctrl-C at one candidate, in its training or beside it."""
    calls = []

    def score(problem, architecture):
        calls.append(architecture)
        if len(calls) == number and not inside:
            raise KeyboardInterrupt
        if len(calls) == number:
            problem.interrupted = True  # as a training that was stopped leaves it
            return 1e9
        return HeldOutScore(PairByPair().realise)(problem, architecture)

    return score


PROBLEMS: list = []  # of `Interrupted`


class Interrupted(PairByPair):
    def __init__(self, number=4, inside=False):
        super().__init__()
        self.number = number
        self.inside = inside

    def search(self, problem):
        score = interrupt_at(self.number, self.inside)
        PROBLEMS.append(problem)
        return problem.evaluate(self.policy(problem), score=score).best


@pytest.mark.parametrize("inside", [False, True])
def test_an_interrupt_keeps_the_best_so_far(inside, clicks):
    with pytest.warns(UserWarning, match="Training was interrupted"):
        model = fit(Interrupted(4, inside), clicks)
    assert len(model.search_history_) == 3 and model.history_ == []
    best = max(model.search_history_, key=lambda record: record["score"])
    found = model.architecture_["interaction"]
    assert found["interactions"] == best["architecture"]["interactions"]
    # What serves are the weights that were judged.
    problem = PROBLEMS[-1]
    serving = model.net_.module_.state_dict()
    assert serving.keys() == problem.final_state.keys()
    assert all(torch.equal(serving[name], t) for name, t in problem.final_state.items())
    assert not torch.equal(serving["embedding.weight"], problem.initial_state["embedding.weight"])


def test_an_interrupt_before_the_first_score_leaves_no_model(clicks):
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(1), clicks)
    policy, _ = numbers([1])
    problem = problem_of()

    def press(problem, architecture):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        problem.evaluate(policy, score=press)
    assert problem.interrupted


def test_an_interrupt_in_a_second_search_falls_back_on_the_first(clicks):
    with pytest.warns(UserWarning, match="Training was interrupted"):
        model = fit([AutoField(), Interrupted(1)], clicks, search_epochs=1)
    assert "interaction" not in model.architecture_ and "gate" in model.architecture_
    assert np.isfinite(model.predict_proba(clicks[0])).all()


def test_progress_tells_candidates(clicks, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(PairByPair(max_evaluations=2), clicks, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("search-PairByPair candidate 2  score -0.")]
