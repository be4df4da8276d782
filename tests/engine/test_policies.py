"""Regularized evolution: a plain reference, planted optima, repair, resumption."""

import json
import math

import numpy as np
import pytest
import torch
from draws import configurations, generator, run

from sklearn_autorec.engine import (
    CategoricalController,
    ChoiceSpace,
    EncodedTensors,
    RegularizedEvolution,
    SearchProblem,
    TrainingPlan,
    UniformPaths,
)
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext

BITS = {f"b{k}": [0, 1] for k in range(20)}
SMALL = {"op": ["sum", "max", None], "depth": [1, 2], "units": [[8], [16, 8], [4], []]}  # 24


def ones(configuration):
    return float(sum(configuration.values()))


# The space
# --------------------------------------------------------------------------------------------


def test_space_draws_evenly_and_mutations_change_one_name():
    space, random = ChoiceSpace(SMALL), np.random.default_rng(0)
    everything = [json.dumps(c) for c in configurations(SMALL)]
    drawn = [json.dumps(space.draw(random)) for _ in range(4800)]
    counts = np.array([drawn.count(text) for text in everything])
    assert space.size == 24 and counts.sum() == 4800
    assert (np.abs(counts - 200) < 4 * math.sqrt(200)).all()
    start, changed = {"op": None, "depth": 2, "units": []}, []
    for _ in range(3000):
        child = space.mutate(start, random)
        (name,) = [n for n in start if child[n] != start[n]]
        changed.append(name)
    shares = [changed.count(name) for name in SMALL]
    assert np.abs(np.array(shares) - 1000).max() < 120
    assert start == {"op": None, "depth": 2, "units": []}
    only = ChoiceSpace({"a": [1], "b": [True]})
    assert only.mutate({"a": 1, "b": True}, random) == {"a": 1, "b": True}


@pytest.mark.parametrize(
    "choices, error, message",
    [
        ({}, ValueError, "must have a list of values"),
        ({"a": []}, ValueError, r"choices\['a'\] must list some values, each once"),
        ({"a": [1, 2, 1]}, ValueError, r"choices\['a'\] must list some values, each once"),
        ({"a": [1, {2}]}, TypeError, "must hold what JSON knows"),
        ({"a": [1, math.nan]}, TypeError, "must hold what JSON knows"),
    ],
)
def test_space_refuses(choices, error, message):
    with pytest.raises(error, match=message):
        ChoiceSpace(choices)


# Regularized evolution
# --------------------------------------------------------------------------------------------


def plain_evolution(choices, seed, score, n, population, tournament):
    """Algorithm 1 of the paper, one child at a time, with the draws that ours makes."""
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator(seed))))
    names, queue, seen, history = list(choices), [], [], []

    def draw():
        return {m: choices[m][int(random.integers(len(choices[m])))] for m in names}

    def mutate(parent):
        name = names[int(random.integers(len(names)))]
        others = [v for v in choices[name] if v != parent[name]]
        return {**parent, name: others[int(random.integers(len(others)))]}

    def join(child):
        seen.append(child)
        queue.append((child, score(child)))
        history.append(queue[-1])

    while len(history) < population:
        child = draw()
        if child not in seen:
            join(child)
    while len(history) < n:
        drawn = sorted(random.choice(population, tournament, replace=False))
        parent = max((queue[k] for k in drawn), key=lambda member: member[1])[0]
        child = mutate(parent)
        tries = 1
        while child in seen and tries < 20:
            child, tries = mutate(parent), tries + 1
        while child in seen:
            child = draw()
        join(child)
        queue.pop(0)  # the oldest, however good
    return history


@pytest.mark.parametrize("seed", range(3))
def test_evolution_agrees_with_a_plain_one(seed):
    choices = {f"c{k}": list(range(4)) for k in range(6)}

    def score(c):
        return sum(v * v for v in c.values()) % 17 + 0.01 * c["c0"]

    policy = RegularizedEvolution(
        ChoiceSpace(choices),
        generator(seed),
        n_evaluations=120,
        population=12,
        tournament=4,
        batch_size=1,
    )
    history = run(policy, score)
    assert history == plain_evolution(choices, seed, score, 120, 12, 4)
    assert policy.best == max(history, key=lambda pair: pair[1])


def test_evolution_solves_one_max_and_random_search_does_not():
    needed, random_best = [], []
    for seed in range(5):
        policy = RegularizedEvolution(
            ChoiceSpace(BITS), generator(seed), n_evaluations=600, population=50, tournament=15
        )
        scores = [score for _, score in run(policy, ones)]
        assert policy.best[1] == max(scores)
        needed.append(scores.index(20.0) if 20.0 in scores else 600)
        space, random = ChoiceSpace(BITS), np.random.default_rng(seed)
        random_best.append(max(ones(space.draw(random)) for _ in range(600)))
    assert np.median(needed) < 600 and max(random_best) < 20, (needed, random_best)


def test_nothing_is_proposed_twice_and_an_exhausted_space_ends_the_search():
    policy = RegularizedEvolution(
        ChoiceSpace(SMALL), generator(), n_evaluations=1000, population=5, tournament=2
    )
    history = run(policy, lambda c: float(c["depth"]))
    texts = sorted(json.dumps(c, sort_keys=True) for c, _ in history)
    assert texts == sorted(json.dumps(c, sort_keys=True) for c in configurations(SMALL))
    assert policy.ask() == []


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_so_many_evaluations_in_batches_of_this_size(batch_size):
    policy = RegularizedEvolution(
        ChoiceSpace(BITS), generator(), n_evaluations=25, population=10, batch_size=batch_size
    )
    sizes = []
    while candidates := policy.ask():
        sizes.append(len(candidates))
        policy.tell([ones(c) for c in candidates])
    assert sizes[0] == 10 and sum(sizes) == 25 and set(sizes[1:-1]) <= {batch_size}


def test_invalid_children_are_repaired_or_dropped():
    """At most four ones: more are cut, and what has b0 cannot be repaired."""

    def repair(c):
        if c["b0"]:
            return None
        for name in sorted(c, key=lambda name: int(name[1:]), reverse=True):
            if sum(c.values()) > 4:
                c = {**c, name: 0}
        return c

    def value(c):
        return float(c["b3"] + c["b7"] + c["b11"] + c["b19"] - 0.1 * sum(c.values()))

    policy = RegularizedEvolution(
        ChoiceSpace(BITS, repair), generator(), n_evaluations=400, population=30, tournament=10
    )
    history = run(policy, value)
    assert all(sum(c.values()) <= 4 and c["b0"] == 0 for c, _ in history)
    assert len({json.dumps(c) for c, _ in history}) == len(history) == 400
    assert policy.best[0] == {name: int(name in ("b3", "b7", "b11", "b19")) for name in BITS}
    hopeless = ChoiceSpace(BITS, lambda c: None)
    assert RegularizedEvolution(hopeless, generator()).ask() == []
    with pytest.raises(ValueError, match="1000 draws from the space have not given one valid"):
        UniformPaths(hopeless, generator())


def test_failed_candidates_are_no_parents():
    """Whoever has b0 fails: after the first population their share falls to that of mutations."""
    policy = RegularizedEvolution(
        ChoiceSpace(BITS), generator(), n_evaluations=200, population=20, tournament=8
    )
    history = run(policy, lambda c: math.nan if c["b0"] else (math.inf if c["b1"] else ones(c)))
    failed = [bool(c["b0"] or c["b1"]) for c, _ in history]
    assert sum(failed[:20]) >= 10 and np.mean(failed[60:]) < 0.3
    assert math.isfinite(policy.best[1])
    alone = RegularizedEvolution(ChoiceSpace(SMALL), generator())
    alone.tell([math.nan] * len(alone.ask()))
    assert alone.best is None


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_evolution_resumes_with_the_same_bits(steps, pending):
    def fresh(seed=0):
        return RegularizedEvolution(
            ChoiceSpace(BITS), generator(seed), n_evaluations=60, population=12, tournament=4
        )

    def score(c):
        return math.nan if c["b5"] else ones(c) / 7

    whole = run(fresh(), score)
    first, history = fresh(), []
    for _ in range(steps):
        candidates = first.ask()
        history += [(c, score(c)) for c in candidates]
        first.tell([s for _, s in history[-len(candidates) :]])
    if pending:  # killed while candidates were evaluated
        first.ask()
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    second = fresh(seed=1)
    second.load_state_dict(state)
    run(first, score)  # what goes on does not change what was saved
    history += run(second, score)
    np.testing.assert_equal(history, whole)
    assert second.best == first.best and state != first.state_dict()
    np.testing.assert_equal(second.state_dict(), first.state_dict())


def test_evolution_refuses():
    space = ChoiceSpace(BITS)
    for name in ("n_evaluations", "population", "tournament", "batch_size"):
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            RegularizedEvolution(space, generator(), **{name: 0})
    with pytest.raises(ValueError, match="tournament=6 draws from a population of 5"):
        RegularizedEvolution(space, generator(), population=5)
    policy = RegularizedEvolution(space, generator(), population=6)
    policy.ask()
    with pytest.raises(ValueError, match="tell was given 2 scores, ask has given 6 candidates"):
        policy.tell([1.0, 2.0])
    with pytest.raises(ValueError, match=r"'population': 6.* this one has .*'population': 7"):
        RegularizedEvolution(space, generator(), population=7).load_state_dict(policy.state_dict())


# In a search
# --------------------------------------------------------------------------------------------


def search_problem():
    data = EncodedTensors(
        torch.zeros(8, 1, dtype=torch.int32),
        torch.zeros(8, 0),
        torch.zeros(8, 0, dtype=torch.int32),
        (torch.arange(8) % 2).float(),
    )
    context = BuildContext(("a",), (3,), embedding_dim=2, generator=generator())
    plan = TrainingPlan(epochs=1, batch_size=8)
    return SearchProblem(FM(), context, ("interaction",), dict, BinaryLogLoss(), data, plan, "cpu")


def test_a_problem_evaluates_both_and_a_stopped_evolution_goes_on():
    calls = []

    def score(problem, architecture):
        calls.append(architecture)
        return ones(architecture)

    def evolution():
        return RegularizedEvolution(
            ChoiceSpace(BITS), generator(), n_evaluations=60, population=12, tournament=4
        )

    whole = search_problem().evaluate(evolution().proposals(), score=score)
    assert len(calls) == 60 and whole.best == max(whole.architectures, key=ones)
    first = evolution()
    stopped = search_problem().evaluate(first.proposals(), score=score, max_evaluations=30)
    assert stopped.stopped == "max_evaluations" and stopped.architectures == calls[:30]
    second = evolution()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = search_problem().evaluate(second.proposals(), score=score)
    # The batch that was not finished is asked for again.
    assert rest.architectures == whole.architectures[28:] and rest.best == whole.best
    calls.clear()
    few = {"b0": [0, 1], "b1": [0, 1]}
    controller = CategoricalController(few, generator(), n_steps=30)
    found = search_problem().evaluate(controller.proposals(), score=score)
    assert len(calls) == 4 and found.best == controller.best[0] == {"b0": 1, "b1": 1}
