"""Formulas of ESAPN; planted truth and streams are in ``test_streamed_sizes.py``."""

import numpy as np
import pytest
import torch

from sklearn_autorec.embedding import ESAPN
from sklearn_autorec.embedding._value_counts import LossHistory
from sklearn_autorec.engine import EncodedTensors, SearchProblem, TrainingPlan
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, Inputs, sizes_from_text

D, SIZES = 4, (1, 2, 4)


def context(**changes):
    options = {
        "field_names": ("a", "b", "n", "s"),
        "n_ids": (5, 7),
        "n_numeric": 1,
        "sequences": ((4, 3),),
        "embedding_dim": D,
        "generator": torch.Generator().manual_seed(0),
        "embedding_init": 1.0,
        "counts": (np.array([0, 3, 40, 9, 1]), np.array([0, 0, 20, 15, 10, 5, 3])),
    }
    return BuildContext(**{**options, **changes})


def batch(n=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, m, (n,), generator=generator) for m in (5, 7)], 1)
    items = torch.randint(0, 4, (n, 3), generator=generator)
    items[0] = 0
    numeric = torch.randn(n, 2, generator=generator)
    y = (torch.rand(n, generator=generator) < 0.5).float()
    return EncodedTensors(ids.int(), numeric, items.int(), y)


def inputs_of(b):
    return Inputs(b.ids, b.numeric, b.sequences)


def searched(**options):
    module = ESAPN(SIZES, **options).build(context())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.arch_parameters():
            p.normal_(generator=generator)
    module.level.copy_(torch.randint(0, 3, module.level.shape, generator=generator))
    module.level[12] = 0  # of the padding of lists, which could grow
    return module


def rows_of(b):
    ids = b.ids.numpy() + np.array([0, 5])
    return np.concatenate([ids, b.sequences.numpy() + 12], 1)


def reference_odds(module, rows, level):
    """Log odds of enlarging, by the perceptron of the field of each column."""
    counts = module.counted.counts.numpy()[rows]
    array = {name: getattr(module, name).detach().numpy() for name in module.policy}
    out = np.zeros(rows.shape)
    for k, f in enumerate([0, 1, 3, 3, 3]):
        x = np.concatenate([(np.log2(1.0 + counts[:, [k]]) - 5) / 5, np.eye(3)[level[:, k]]], 1)
        hidden = np.tanh(x @ array["entry"][f] + array["entry_shift"][f])
        out[:, k] = (hidden @ array["exit"][f] + array["exit_shift"][f])[:, 0]
    return out


def test_values_read_the_columns_of_their_size():
    module, b = searched(), batch()
    e = module.eval()(inputs_of(b)).detach().numpy()
    weight, width = module.weight.detach().numpy(), np.array(SIZES)[module.level.numpy()]
    masked = weight * (np.arange(D) < width[:, None])
    rows = rows_of(b)
    np.testing.assert_allclose(e[:, 0], masked[rows[:, 0]], atol=1e-6)
    np.testing.assert_allclose(e[:, 1], masked[rows[:, 1]], atol=1e-6)
    there = b.sequences.numpy()[:, :, None] > 0
    items = (masked[rows[:, 2:]] * there).sum(1) / np.maximum(there.sum(1), 1)
    np.testing.assert_allclose(e[:, 3], items, atol=1e-6)
    found = sizes_from_text(ESAPN(SIZES).derive(module, context())["sizes"])
    np.testing.assert_array_equal(found, width)


def test_passes_read_the_next_size_by_the_odds_that_they_should():
    module, b = searched(), batch(4000)
    rows = rows_of(b)
    level = module.level.numpy()[rows]
    module.train()(inputs_of(b))
    weights_pass = module.read
    module.sample()
    with torch.no_grad():
        module(inputs_of(b))
    odds = reference_odds(module, rows, level)
    expected = np.where(level < 2, 1 / (1 + np.exp(-odds)), 0)
    for read, chance in ((weights_pass, 0.5 * (level < 2)), (module.drawn, expected)):
        np.testing.assert_array_equal(read.rows, rows)
        larger = read.larger.numpy()
        assert not larger[level == 2].any()
        error = np.sqrt(np.maximum(chance * (1 - chance), 1e-4).sum(0))
        assert (np.abs(larger.sum(0) - chance.sum(0)) < 5 * error).all()
    # What is said to have been read was read.
    e = module(inputs_of(b))[:, 0].detach().numpy()
    width = np.array(SIZES)[level[:, 0] + module.read.larger[:, 0].numpy()]
    whole = module.weight.detach().numpy()[rows[:, 0]]
    np.testing.assert_allclose(e, whole * (np.arange(D) < width[:, None]), atol=1e-6)
    # A pass without gradients that is not the policy's reads sizes as they are.
    before = module.read
    with torch.no_grad():
        module(inputs_of(b))
    assert module.read is before and not module.drawing


def evidence_of(module, b, losses, drawn_losses, first):
    """Both passes on a batch in the order of the schedule; what policy_loss then returns."""

    def of_policy():
        module.sample()
        with torch.no_grad():
            module(inputs_of(b))

    if first == "policy":  # rows="next"
        of_policy()
        assert module.policy_loss(-drawn_losses).item() == 0
        module(inputs_of(b))
        module.observe(b, losses)
        of_policy()
        drawn = module.evidence.drawn
        return drawn, module.policy_loss(-drawn_losses)
    module(inputs_of(b))
    module.observe(b, losses)
    of_policy()
    return module.drawn, module.policy_loss(-drawn_losses)


def divergence(odds):
    p, q = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(1.5))
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


@pytest.mark.parametrize("rows_name", ["next", "previous"])
def test_what_pairs_teach_agrees_with_numpy(rows_name):
    module = searched(rows=rows_name, price=0.3, min_gain=0.06).train()
    b = batch(40)
    generator = torch.Generator().manual_seed(3)
    losses, drawn_losses = torch.rand(2, 40, generator=generator)
    first = "policy" if rows_name == "next" else "weights"
    rows, level = rows_of(b), module.level.numpy()[rows_of(b)]
    drawn, loss = evidence_of(module, b, losses, drawn_losses, first)
    a, o = drawn.larger.numpy(), module.read.larger.numpy()
    gain = (losses - drawn_losses).numpy()
    gain = (gain - gain.mean())[:, None]
    columns = np.array([1, 2, 0])[level]
    price = 0.3 * columns / np.maximum(module.counted.counts.numpy()[rows], 1)
    odds = reference_odds(module, rows, level)
    p = 1 / (1 + np.exp(-odds))
    each = -2 * (a != o) * p * (gain * (a - o) - price) + 0.06 / 1.5 * divergence(odds)
    there = np.concatenate([np.ones((40, 2), bool), b.sequences.numpy() > 0], 1)
    expected = np.where((level < 2) & there, each, 0).sum(1).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, module.arch_parameters()))


def test_the_score_function_compares_with_the_last_losses_of_a_value():
    module = searched(baseline="history", rows="previous", price=0.0, min_gain=0.0, history=2)
    b = batch(30)
    losses = torch.rand(30, generator=torch.Generator().manual_seed(2))
    drawn, loss = evidence_of(module.train(), b, losses, 0.5 * losses, "weights")
    rows, level = rows_of(b), module.level.numpy()[rows_of(b)]
    there = np.concatenate([np.ones((30, 2), bool), b.sequences.numpy() > 0], 1)
    total, n = np.zeros((2, 16))
    np.add.at(total, rows[there], np.broadcast_to(losses.numpy()[:, None], rows.shape)[there])
    np.add.at(n, rows[there], 1)
    gain = (total / np.maximum(n, 1))[rows] - 0.5 * losses.numpy()[:, None]
    odds = reference_odds(module, rows, level)
    a = drawn.larger.numpy()
    log_p = -np.log1p(np.exp(np.where(a > 0, -odds, odds)))
    expected = np.where((level < 2) & there, -gain * log_p, 0).sum(1).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_policies_settle_where_the_gain_is_the_least_that_is_wanted():
    odds = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    for gain, sign in ((0.05, -1), (0.07, 1)):
        p = torch.sigmoid(odds)
        q = torch.sigmoid(torch.tensor(-1.5))
        away = p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))
        (slope,) = torch.autograd.grad(-gain * p + 0.06 / 1.5 * away, odds)
        assert slope * sign < 0


def test_only_likely_values_of_the_batch_grow_by_one_size_and_none_shrinks():
    module, b = searched().train(), batch(6)
    module(inputs_of(b))
    module.observe(b, torch.rand(6))
    before = module.level.numpy().copy()
    rows = rows_of(b)
    there = np.concatenate([np.ones((6, 2), bool), b.sequences.numpy() > 0], 1)
    grows = (reference_odds(module, rows, before[rows]) > 0) & (before[rows] < 2) & there
    module.after_step()
    expected = before.copy()
    expected[np.unique(rows[grows])] += 1
    np.testing.assert_array_equal(module.level, expected)
    assert grows.any() and not grows[there].all()


@pytest.mark.parametrize("odds", [-0.1, 0.1])
def test_values_grow_when_growing_is_the_better_bet(odds):
    module, b = searched().train(), batch(6)
    with torch.no_grad():
        module.exit.zero_()
        module.exit_shift.fill_(odds)
    module.level.zero_()
    module(inputs_of(b))
    module.observe(b, torch.rand(6))
    module.after_step()
    read = np.unique(rows_of(b)[:, :2])
    assert (module.level.numpy()[read] == (odds > 0)).all()


def test_exploration_leaves_tables_sizes_and_histories_as_they_are():
    own = EncodedTensors(*(getattr(batch(64), k) for k in ("ids", "numeric", "sequences", "y")))
    plan = TrainingPlan(epochs=1, batch_size=16, lr=0.01)
    problem = SearchProblem(
        FM(), context(), ("embedding",), dict, BinaryLogLoss(), own, plan, torch.device("cpu")
    )
    module, traces = ESAPN(SIZES, warmup=0.0).build(problem.context), []
    real_sample, real_loss = module.sample, module.policy_loss

    def sample():
        traces.append({k: t.clone() for k, t in module.state_dict().items()})
        real_sample()

    def policy_loss(reward):
        state = module.state_dict()
        traces[-1] = all(torch.equal(t, state[k]) for k, t in traces[-1].items())
        return real_loss(reward)

    module.sample, module.policy_loss = sample, policy_loss
    problem.train(module)
    assert traces == [True] * 4


def test_where_enlarging_always_costs_nothing_grows():
    module = searched(min_gain=0.0)
    optimizer = module.arch_optimizer(0)
    module.level.zero_()
    module.train()
    for step in range(300):
        b = batch(32, seed=step)
        module(inputs_of(b))
        module.read = module.read._replace(larger=torch.zeros_like(module.read.larger))
        module.seen = (module.read, torch.zeros(32), None)
        larger = (torch.rand(module.read.rows.shape) < 0.5).long()
        module.drawn = module.read._replace(larger=larger)
        module.evidence = module._compare(module.drawn, -larger.sum(1).float())
        optimizer.zero_grad()
        module._loss_of(module.evidence).backward()
        optimizer.step()
    rows = torch.arange(12).view(-1, 1).expand(-1, 5)
    odds = module.log_odds(rows % 5 + torch.tensor([0, 5, 12, 12, 12]).clamp(max=11), rows * 0)
    assert (odds[:, :2] < 0).all()


def test_the_history_holds_the_last_losses_of_each_value():
    history = LossHistory(4, 2)
    there = torch.ones(2, 2, dtype=torch.bool)
    for losses in ([1.0, 2.0], [3.0, 5.0], [7.0, 8.0]):
        history.push(torch.tensor([[0, 1], [0, 2]]), there, torch.tensor(losses))
    np.testing.assert_allclose(
        history(torch.arange(4)), [(4 + 7.5) / 2, (3 + 7) / 2, (5 + 8) / 2, np.nan]
    )
    assert history.usual().item() == pytest.approx((4 + 7.5 + 3 + 7 + 5 + 8) / 6)
