import itertools

import numpy as np
import pytest
import torch
from nis_cases import context

from sklearn_autorec.embedding import NIS
from sklearn_autorec.embedding._blocks import BlockChoices, row_bounds
from sklearn_autorec.engine import EncodedTensors, SearchProblem, TrainingPlan
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, Inputs


def random_inputs(c, n=9, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def ids(size, length):
        return torch.randint(0, size, (n, length), generator=generator).int()

    return Inputs(
        torch.cat([ids(size, 1) for size in c.n_ids], 1),
        torch.cat(
            [torch.randn(n, c.n_numeric, generator=generator), torch.zeros(n, c.n_numeric)], 1
        ),
        torch.cat([ids(size, length) for size, length in c.sequences], 1),
    )


def all_actions(choices):
    """Every combination of the choices of all groups, (number, G)."""
    options = [valid.nonzero()[:, 0].tolist() for valid in choices.valid]
    return torch.tensor(list(itertools.product(*options)))


# Blocks
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "n_ids, n_blocks, expected",
    [
        (12, 5, [0, 4, 6, 8, 10, 12]),
        (12, 4, [0, 5, 7, 10, 12]),
        (12, 1, [0, 12]),
        (4, 5, [0, 3, 4]),
        (3, 5, [0, 3]),
        (2, 5, [0, 2]),  # a column without values: the missing and the unknown id
        (1, 5, [0, 1]),
    ],
)
def test_row_blocks_hold_equal_numbers_of_values(n_ids, n_blocks, expected):
    assert row_bounds(n_ids, n_blocks) == expected


def test_choices_of_a_single_width_are_the_first_rows_by_the_first_columns():
    choices = BlockChoices([12, 4], 5, "single", 5, 2)
    assert choices.valid.sum(1).tolist() == [5 * 2 + 1, 2 * 2 + 1]
    assert choices.column_block.tolist() == [0, 0, 1, 1, 1]
    found = {tuple(b) for b in choices.bounds[0].tolist()}
    rows = [4, 6, 8, 10, 12]
    assert found == {(0, 0)} | {(r, 0) for r in rows} | {(r, r) for r in rows}
    for n, bounds in enumerate(choices.bounds[0].tolist()):
        used = choices.bytes_of(torch.tensor([[n, 0]])).item()
        assert used == 4 * (2 * bounds[0] + 3 * bounds[1])


def test_choices_of_several_widths_are_rows_of_each_column_block():
    choices = BlockChoices([12, 4], 5, "multi", 5, 2)
    assert choices.field.tolist() == [0, 0, 1, 1] and choices.valid.sum(1).tolist() == [6, 6, 3, 3]
    assert choices.bounds[0, :, 0].tolist() == [0, 4, 6, 8, 10, 12]
    assert not choices.bounds[0, :, 1].any()
    action = torch.tensor([[5, 2, 1, 0]])
    assert choices.bounds_of(action).tolist() == [[[12, 6], [3, 0]]]
    # Vectors are prefixes: what has the second block has the first one.
    assert choices.bounds_of(torch.tensor([[1, 4, 0, 2]])).tolist() == [[[10, 10], [4, 4]]]


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_bytes_are_those_of_the_mask(mode):
    sizes = [6, 3]
    choices = BlockChoices(sizes, 3, mode, 3, 2)
    actions = all_actions(choices)
    masks = [choices.mask(a, sizes) for a in actions]
    np.testing.assert_array_equal(choices.bytes_of(actions), [4 * m.sum() for m in masks])
    if mode == "single":
        assert len({m.tobytes() for m in masks}) == len(masks)  # no choice stands there twice
    assert choices.mask(choices.full(), sizes).all()
    for mask in masks:
        for block in np.split(mask, [6]):
            assert (np.diff(block.astype(int), axis=0) <= 0).all()  # the frequent values first
            assert (np.diff(block.astype(int), axis=1) <= 0).all()  # and prefixes


def test_blocks_are_no_more_than_columns():
    assert BlockChoices([5], 3, "single", 2, 8).column_block.tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 1.0])
def test_the_final_choice_fits_the_budget_and_leaves_no_room_for_a_likelier_one(mode, share):
    sizes = [9, 5, 4]
    choices = BlockChoices(sizes, 4, mode, 3, 2)
    whole = 4 * 4 * sum(sizes)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        log_p = torch.randn(choices.valid.shape, generator=generator) * 2
        choice = choices.within(log_p, share * whole)
        assert choices.valid[torch.arange(len(choice)), choice].all()
        assert choices.bytes_of(choice[None])[0] <= share * whole
        likeliest = log_p.masked_fill(~choices.valid, -torch.inf).argmax(1)
        if choices.bytes_of(likeliest[None])[0] <= share * whole:
            assert torch.equal(choice, likeliest)
        for g, n in itertools.product(range(len(choice)), range(choices.valid.shape[1])):
            other = choice.clone()
            other[g] = n
            if choices.valid[g, n] and log_p[g, n] > log_p[g, choice[g]]:
                assert choices.bytes_of(other[None])[0] > share * whole


def test_what_is_given_up_is_what_costs_least_probability_a_byte():
    choices = BlockChoices([10, 10], 2, "single", 1, 1)
    log_p = torch.tensor([[-5.0, -0.1], [-0.2, -0.1]])  # the second field hardly minds
    assert choices.within(log_p, 100.0).tolist() == [1, 0]


def searched_module(c, mode="single", **options):
    module = NIS(mode, **{"n_row_blocks": 3, "n_col_blocks": 2, "n_actions": 4, **options}).build(c)
    with torch.no_grad():
        module.logits.normal_(generator=torch.Generator().manual_seed(5))
    module.sample()
    return module


# The policy
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("row_wise", [False, True])
def test_each_row_reads_the_blocks_of_its_action(mode, row_wise):
    c = context(sparse_gradients=row_wise)
    module, x = searched_module(c, mode), random_inputs(c)
    e = module(x).detach().numpy()
    table = module.weight.detach().numpy()
    sizes, first = [12, 4, 7], [0, 12, 16]
    ids, items = x.ids.numpy(), x.sequences.numpy()
    for i in range(9):
        mask = module.choices.mask(module.actions[i % 4], sizes)
        kept = table * mask
        for f in range(2):
            np.testing.assert_allclose(e[i, f], kept[first[f] + ids[i, f]], rtol=1e-6)
        own = [kept[16 + item] for item in items[i] if item > 0]
        expected = np.mean(own, axis=0) if own else np.zeros(5)
        np.testing.assert_allclose(e[i, 3], expected, atol=1e-6)
    assert (e[:, 2] != 0).all()  # numbers have no rows
    assert torch.equal(module(x), torch.from_numpy(e))  # until the next draw
    module.sample()
    assert not torch.equal(module(x), torch.from_numpy(e))
    module.eval()
    kept = table * module.choices.mask(module.best(), sizes)
    np.testing.assert_allclose(module(x).detach().numpy()[:, 0], kept[ids[:, 0]], rtol=1e-6)


def log_softmax(x):
    return x - np.log(np.exp(x).sum())


@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("n", [9, 3])
def test_the_policy_s_loss_agrees_with_numpy(mode, n):
    module = searched_module(context(), mode, budget=0.5, cost_weight=0.7, entropy=0.02)
    reward = torch.randn(n, generator=torch.Generator().manual_seed(3))
    loss = module.policy_loss(reward).detach().numpy()
    valid, logits = module.valid.numpy(), module.logits.detach().numpy().astype(float)
    log_p = [log_softmax(row[ok]) for row, ok in zip(logits, valid, strict=True)]
    spread = -sum((np.exp(p) * p).sum() for p in log_p)
    k = np.arange(n) % 4
    used = np.array([4 * module.choices.mask(a, [12, 4, 7]).sum() for a in module.actions])
    full = 0.5 * 4 * 5 * 23 - 4 * 3 * 5  # and what says where the blocks are
    R = reward.numpy() - 0.7 * np.maximum(used / full - 1, 0)[k]
    for i in range(n):
        advantage = R[i] - R[k != k[i]].mean()
        chance = sum(p[int(a)] for p, a in zip(log_p, module.actions[k[i]], strict=True))
        assert loss[i] == pytest.approx(-advantage * chance - 0.02 * spread, rel=1e-4, abs=1e-5)
    assert (used > full).any()


def test_one_row_alone_moves_nothing():
    module = searched_module(context())
    loss = module.policy_loss(torch.tensor([-0.7])).sum()
    assert not torch.autograd.grad(loss, module.logits)[0].any()


@pytest.mark.parametrize("mode, blocks", [("single", (3, 2)), ("multi", (2, 2))])
def test_the_expected_gradient_is_that_of_the_expected_reward(mode, blocks):
    """Over all pairs of at most 50 actions, of which two share a batch of three rows."""
    c = context(n_ids=(5, 4), sequences=(), n_numeric=0, d=2)
    options = {"n_row_blocks": blocks[0], "n_col_blocks": blocks[1], "n_actions": 2}
    budget = 0.45 if mode == "single" else 0.99
    module = searched_module(c, mode, budget=budget, cost_weight=0.5, **options)
    choices = module.choices
    actions = all_actions(choices)
    if mode == "multi":  # one field is enough: the other is held
        actions = actions[(actions[:, 2:] == 1).all(1)]
        rest = 2
    else:
        rest = len(choices.field)
    assert 9 <= len(actions) <= 50
    generator = torch.Generator().manual_seed(4)
    worth = torch.randn(len(actions), generator=generator)
    groups = torch.arange(rest)

    def log_chance(a):
        return module.log_probabilities()[groups, a[:rest]].sum()

    over = (choices.bytes_of(actions) / module.budget - 1).clamp(min=0).float()
    assert 0 < (over > 0).sum() < len(over)
    expected = sum(
        log_chance(a).exp() * (w - 0.5 * o) for a, w, o in zip(actions, worth, over, strict=True)
    )
    (exact,) = torch.autograd.grad(expected, module.logits)
    exact = exact[:rest]
    chances = [log_chance(a).exp().item() for a in actions] if rest else []
    mean = torch.zeros_like(exact)
    for i, j in itertools.product(range(len(actions)), repeat=2):
        module.actions = actions[[i, j]]
        loss = module.policy_loss(worth[[i, j, i]]).mean()
        (g,) = torch.autograd.grad(loss, module.logits)
        mean -= chances[i] * chances[j] * g[:rest]
    torch.testing.assert_close(mean, exact, rtol=1e-4, atol=1e-5)
    assert exact.abs().max() > 0.05


def test_actions_are_drawn_by_their_probabilities_and_weights_train_on_half_of_everything():
    c = context()
    module = searched_module(c, n_actions=20_000)
    p = module.log_probabilities().exp().detach()

    def shares():
        return torch.stack(
            [torch.bincount(a, minlength=p.shape[1]) / 20_000 for a in module.actions.T]
        )

    module.sample()
    torch.testing.assert_close(shares(), p, atol=0.015, rtol=0)
    drawn = module.actions.clone()
    module.sample()
    assert not torch.equal(module.actions, drawn)
    module.set_progress(1.0)
    whole = torch.nn.functional.one_hot(module.choices.full(), p.shape[1])
    torch.testing.assert_close(shares(), 0.5 * p + 0.5 * whole, atol=0.015, rtol=0)


def small_problem(c, epochs=4, n=96):
    x = random_inputs(c, n)
    y = (torch.rand(n, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    plan = TrainingPlan(epochs=epochs, batch_size=16, lr=0.01)
    data = EncodedTensors(*x[:3], y)
    return SearchProblem(
        FM(), c, ("embedding",), dict, BinaryLogLoss(), data, plan, torch.device("cpu")
    )


def test_the_policy_rests_in_the_warm_up_and_moves_on_rows_of_its_own():
    c = context()
    module = NIS(warmup=0.5).build(c)
    problem, told = small_problem(c), []
    set_progress, policy_loss = module.set_progress, module.policy_loss
    module.set_progress = lambda t: (told.append((t, bool(module.logits.any()))), set_progress(t))
    rewards = []
    module.policy_loss = lambda r: (rewards.append(r), policy_loss(r))[1]
    problem.train(module)
    assert not any(moved for t, moved in told if t <= 0.5) and told[-1][1]
    assert sum(len(r) for r in rewards) > 0 and all(len(r) <= 16 for r in rewards)
    record = problem.history[-1]
    whole = 4 * 5 * 23
    assert 0 < record["mean_bytes"] < whole and 1 / 20 < record["mean_probability"] < 1
