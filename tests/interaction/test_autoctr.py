"""AutoCTR: blocks, costs and ranking against numpy, forms of graphs, guided evolution, planted
pairs.
"""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from graph_cases import GRAPH, block, context_of

from sklearn_autorec.engine import Evaluations
from sklearn_autorec.interaction import AutoCTR
from sklearn_autorec.interaction._autoctr import pareto_front
from sklearn_autorec.interaction._block_graph import BLOCKS, BlockGraph, GraphSpace, Wiring
from sklearn_autorec.interaction._guided_evolution import (
    GuidedEvolution,
    TreeRanking,
    lambda_gradients,
    ranks,
    tournament_odds,
)

SMALL = {"max_blocks": 3, "widths": (8, 32), "population": 8, "tournament": 3, "n_neighbors": 20}


# Blocks -----------------------------------------------------------------------------------------


def by_hand(module, e):
    """Logits of one row after the other; fields 3 and 4 are numbers."""
    sparse, dense = e[:, [0, 1, 2, 5]], e[:, [3, 4]]
    flat = {"sparse": sparse.reshape(len(e), -1), "dense": dense.reshape(len(e), -1)}
    w = {name: p.detach().numpy() for name, p in module.named_parameters()}

    def dense_layer(number, *inputs):
        x = np.concatenate([flat[s] for s in inputs], 1)
        weight, bias = (w[f"layers.{number}.{kind}"] for kind in ("weight", "bias"))
        flat[number] = np.maximum(x @ weight.T + bias, 0)

    def vectors(number, *inputs):
        parts = {"sparse": sparse, "dense": dense.sum(1, keepdims=True)}
        return np.concatenate(
            [
                parts[s]
                if s in parts
                else (flat[s] @ w[f"projections.{s}_{number}.weight"].T)[:, None]
                for s in inputs
            ],
            1,
        )

    dense_layer(0, "dense", "sparse")
    v = vectors(1, "dense", "sparse", 0)
    flat[1] = np.stack([(v[:, i] * v[:, j]).sum(1) for i in range(6) for j in range(i + 1)], 1)
    v = vectors(2, "sparse", 1, 0)
    pairs = itertools.combinations(range(6), 2)
    flat[2] = sum((v[:, i] * v[:, j]).sum(1) for i, j in pairs)[:, None]
    dense_layer(3, 2, "dense")
    return flat[3] @ w["out.weight"].T - 0.5


def test_a_graph_is_its_formula_and_costs_what_it_says():
    context = context_of()
    module, wiring = BlockGraph(GRAPH, context), Wiring(GRAPH, context)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name != "bias":
                p.normal_(generator=context.generator)
    e = torch.randn(7, 6, 3, generator=context.generator)
    expected = by_hand(module, e.numpy())
    np.testing.assert_allclose(module(e, None).detach().numpy(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(module(e[:1], None), module(e, None)[:1])
    assert wiring.unread == [3] and wiring.width[1] == 6 * 7 // 2
    assert wiring.parameters() == sum(p.numel() for p in module.parameters())
    mlp, dp = 18 * 4, 4 * 3 + 3 * 21
    assert wiring.flops() == mlp + dp + (21 + 4) * 3 + 3 * 7 + 7 * 2 + 2


def test_dot_products_are_the_lower_triangle_of_all():
    module = BlockGraph([block("dp", "sparse")], context_of(n_numeric=0))
    e = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    seen = []
    module.out.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    module(e, None)
    gram = (e @ e.transpose(1, 2)).numpy()
    np.testing.assert_allclose(seen[0][1], gram[1][np.tril_indices(4)], rtol=1e-5)
    assert len({float(v) for v in seen[0][1]}) == 10  # each once


def test_what_no_block_reads_goes_to_the_output():
    module = BlockGraph([block("fm", "sparse"), block("mlp", "sparse")], context_of(n_outputs=3))
    assert module.unread == ["dense", 0, 1] and module.out.weight.shape == (3, 6 + 1 + 4)


# The space --------------------------------------------------------------------------------------


def space_of(context=None, kinds=BLOCKS, widths=(4, 8), max_blocks=4, measure="flops"):
    return GraphSpace(context or context_of(), kinds, widths, max_blocks, measure)


def test_graphs_of_one_meaning_have_one_form():
    space = space_of()

    def form(*blocks):
        found = space.repair({"blocks": list(blocks)})
        return found and found["blocks"]

    mlp, fm = block("mlp", "sparse"), block("fm", "sparse")
    assert form(mlp, fm) == form(fm, mlp) == [fm, mlp]
    assert form({**fm, "width": 8}) == [fm]  # it has none
    assert form(block("mlp"), fm, block("mlp", 0)) == [fm]  # nothing comes out of 0
    assert form(block("fm", "dense"), mlp) == [mlp]  # one vector has no partner
    assert form(block("fm", "dense"), block("mlp", "sparse", 0)) == [mlp]
    assert form(block("fm", "dense")) is None and form() is None
    assert form(fm, fm, block("mlp", 1, 0)) == [fm, block("mlp", 0)]  # the same number twice
    assert form(mlp, mlp) == [mlp, mlp]  # weights of their own
    later = form(mlp, block("dp", "dense", 0), fm, block("mlp", 2, 1))
    assert later == [fm, mlp, block("dp", "dense", 1), block("mlp", 0, 2)]
    assert form(fm, mlp, block("dp", 1, "dense"), block("mlp", 2, 0)) == later


def test_draws_and_mutations_are_graphs_that_check_accepts_and_all_choices_occur():
    context, rng = context_of(), np.random.default_rng(0)
    space, search = space_of(context), AutoCTR()
    current = {"n_fields": 6, "blocks": [block("fm", "sparse")]}
    found = []
    for k in range(300):
        child = space.mutate(current, rng)
        assert child != current and space.repair(child) == child
        search.check(child, context)
        found.append(child)
        if k % 3 == 0:
            current = child
    drawn = [space.repair(space.draw(rng)) for _ in range(50)]
    blocks = [b for c in [*found, *drawn] if c for b in c["blocks"]]
    assert {b["type"] for b in blocks} == set(BLOCKS)
    assert {b.get("width") for b in blocks} == {None, 4, 8}
    assert {s for b in blocks for s in b["inputs"]} == {"dense", "sparse", 0, 1, 2}
    assert max(len(c["blocks"]) for c in found) == 4 and min(len(c["blocks"]) for c in found) <= 2
    lengths = {len(space.features(c)) for c in found}
    assert lengths == {4 * (3 + 1 + 2) + (0 + 1 + 2 + 3) + 3 + 1}
    texts = {json.dumps(c, sort_keys=True) for c in found}
    assert len({tuple(space.features(json.loads(t))) for t in texts}) == len(texts)


# Ranking and evolution --------------------------------------------------------------------------


def test_lambda_gradients_are_derivatives_of_the_weighted_losses():
    rng = np.random.default_rng(0)
    predictions, gains = rng.normal(size=6), np.array([0.2, 1.0, 0.0, 0.6, 0.6, 0.4])
    position = np.argsort(np.argsort(-predictions)) + 1
    ideal = sum(g / math.log2(1 + r) for r, g in enumerate(sorted(gains)[::-1], 1))

    def loss(s):
        total = 0
        for i, j in itertools.permutations(range(6), 2):
            if gains[i] > gains[j]:
                swap = 1 / math.log2(1 + position[i]) - 1 / math.log2(1 + position[j])
                weight = abs((gains[i] - gains[j]) * swap) / ideal
                total += weight * math.log1p(math.exp(s[j] - s[i]))
        return total

    gradient, curvature = lambda_gradients(predictions, gains)
    for k in range(6):
        step = np.eye(6)[k] * 1e-4
        up, here, down = (loss(predictions + sign * step) for sign in (1, 0, -1))
        assert gradient[k] == pytest.approx(-(up - down) / 2e-4, abs=1e-6)
        assert curvature[k] == pytest.approx((up - 2 * here + down) / 1e-8, abs=1e-5)


def test_a_ranking_learns_an_order():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 5))
    scores = features[:, 0] - 0.5 * (features[:, 1] > 0)
    ranking = TreeRanking(features[:100], np.exp(scores[:100]))  # only the order counts
    same = TreeRanking(features[:100], scores[:100]).predict(features)
    np.testing.assert_array_equal(ranking.predict(features), same)
    assert np.corrcoef(ranks(same[100:]), ranks(scores[100:]))[0, 1] > 0.8


def test_odds_of_parents_are_those_of_tournaments():
    odds = tournament_odds(5, 3)
    # Draws with replacement of unordered members: all multisets of four, by their smallest rank.
    counts = np.array([math.comb(r + 2, 3) for r in range(1, 6)])
    np.testing.assert_allclose(odds, counts / counts.sum())
    assert odds.sum() == pytest.approx(1) and (np.diff(odds) > 0).all()
    np.testing.assert_allclose(tournament_odds(4, 1), np.arange(1, 5) / 10)


def landscape(configuration):
    """Graphs are good for two dot products, one of which reads a perceptron."""
    good = 0.0
    for b in configuration["blocks"]:
        kinds = {configuration["blocks"][s]["type"] for s in b["inputs"] if isinstance(s, int)}
        good += (b["type"] == "dp") * (1 + 2 * ("mlp" in kinds) + ("dense" in b["inputs"]))
    return good - 0.3 * len(configuration["blocks"])


def best_of(seed, mislead=False, n_evaluations=60, **options):
    options = {"population": 12, "tournament": 4, "n_neighbors": 30, **options}
    generator = torch.Generator().manual_seed(seed)
    evolution = GuidedEvolution(
        space_of(max_blocks=5), generator, n_evaluations=n_evaluations, **options
    )
    rng, found = np.random.default_rng(seed), []
    while asked := evolution.ask():
        found += [landscape(c) for c in asked]
        told = found[-len(asked) :]
        evolution.tell(rng.normal(size=len(asked)) if mislead else told)
    return max(found)


def test_scores_of_other_graphs_find_worse_ones():
    seeds = range(6)
    found = np.mean([best_of(seed) for seed in seeds])
    misled = np.mean([best_of(seed, mislead=True) for seed in seeds])
    assert misled < found - 1


def test_survivors_have_the_lowest_sum_of_ranks():
    space = space_of()
    options = {"population": 3, "tournament": 2, "n_neighbors": 1, "batch_size": 3}
    evolution = GuidedEvolution(
        space, torch.Generator().manual_seed(0), weights=(3.0, 1.0, 2.0), **options
    )
    told: list = []
    # The best of all is too old to have children.
    for scores in ([9.0, 5.0, np.nan], [2.0, 4.0, 3.0], [0.5, 6.0, 2.5]):
        told += zip([json.dumps(c, sort_keys=True) for c in evolution.ask()], scores, strict=True)
        evolution.tell(scores)
    young = [member for member in told[-6:][::-1] if member[1] == member[1]]
    cost = [space.complexity(json.loads(text)) for text, _ in young]
    by_score = sorted(range(len(young)), key=lambda k: -young[k][1])
    by_cost = sorted(range(len(young)), key=lambda k: cost[k])
    badness = {k: 3 * by_score.index(k) + k + 2 * by_cost.index(k) for k in range(len(young))}
    kept = sorted(badness, key=badness.get)[:3]
    expected = [young[k][0] for k in sorted(kept, key=lambda k: young[k][1])]
    assert evolution._survivors() == expected


def test_it_goes_on_from_a_state_to_the_bit_and_ends_with_its_space():
    def evolution():
        options = {"n_evaluations": 30, "population": 6, "tournament": 2, "n_neighbors": 5}
        return GuidedEvolution(space_of(), torch.Generator().manual_seed(3), **options)

    def run(search, n=99):
        texts = []
        while len(texts) < n and (asked := search.ask()):
            texts += [json.dumps(c, sort_keys=True) for c in asked]
            search.tell(
                [landscape(c) if len(t) % 5 else np.nan for c, t in zip(asked, texts, strict=False)]
            )
        return texts

    whole = run(evolution())
    assert len(whole) == len(set(whole)) == 30
    first = evolution()
    before = run(first, 14)
    first.ask()  # between ask and tell as well
    state = json.loads(json.dumps(first.state_dict()))
    other = evolution()
    other.load_state_dict(state)
    asked = [json.dumps(c, sort_keys=True) for c in other.ask()]
    assert whole[: len(before)] == before and whole[len(before) :][: len(asked)] == asked
    with pytest.raises(ValueError, match="the state is of a search with"):
        GuidedEvolution(space_of(), torch.Generator()).load_state_dict(state)
    with pytest.raises(ValueError, match="1 scores, ask has given"):
        other.tell([0.0])
    tiny = space_of(context_of(n_numeric=0), kinds=("fm",), max_blocks=1)
    only = GuidedEvolution(tiny, torch.Generator().manual_seed(0), population=3)
    assert len(only.ask()) == 1
    only.tell([0.0])
    assert only.ask() == []


def test_the_front_has_what_is_better_or_cheaper():
    space = space_of(measure="parameters")
    graphs = [[block("fm", "sparse")], [block("mlp", "sparse")], GRAPH, [block("dp", "sparse")]]
    architectures = [{"n_fields": 6, "blocks": blocks} for blocks in graphs]
    front = pareto_front(Evaluations(architectures, [-0.6, -0.5, -0.55, np.nan]), space)
    assert [(f["score"], f["blocks"]) for f in front] == [(-0.6, graphs[0]), (-0.5, graphs[1])]
    assert front[1]["complexity"] == Wiring(graphs[1], space.context).parameters()
