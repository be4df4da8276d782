"""Neural interaction detection: strengths against numpy, planted interactions of masks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_autorec.feature_crossing._glider._explaining import random_masks
from sklearn_autorec.feature_crossing._glider._nid import (
    GRADIENT_NID,
    NID,
    Adam,
    Perceptrons,
    detect,
    fit_perceptrons,
    gradient_strengths,
    hessians,
    weight_strengths,
    without_main_effects,
)


def random_nets(n=3, d=5, hidden_units=(7, 4), smooth=False, seed=0):
    nets = Perceptrons.random(n, d, hidden_units, smooth, torch.Generator().manual_seed(seed))
    nets.tensors[-1].copy_(torch.randn(n, d, 1, generator=torch.Generator().manual_seed(1)))
    return nets


def forward(nets, k, z):
    """Net k on one mask, in numpy."""
    tensors = [t[k].double().numpy() for t in nets.tensors]
    h = z
    for w, b in zip(tensors[:-3:2], tensors[1:-3:2], strict=True):
        a = h @ w + b[0]
        h = np.log1p(np.exp(a)) if nets.smooth else np.maximum(a, 0)
    return float((h @ tensors[-3] + tensors[-2][0] + z @ tensors[-1])[0])


@pytest.mark.parametrize("smooth", [False, True])
def test_stacked_nets_are_single_nets(smooth):
    nets = random_nets(smooth=smooth)
    z = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(2))
    expected = [[forward(nets, k, row) for row in z[k].double().numpy()] for k in range(3)]
    assert_allclose(nets(z).numpy(), expected, rtol=1e-5, atol=1e-6)


def plain_nid(weights, max_order):
    """The formula, set by set."""
    influence = np.ones(1)
    for w in weights[:0:-1]:
        influence = np.abs(w) @ influence
    first, found = np.abs(weights[0]), {}
    for unit in range(first.shape[1]):
        by_weight = sorted(range(len(first)), key=lambda i: -first[i, unit])
        for size in range(2, min(max_order, len(first)) + 1):
            members = tuple(sorted(by_weight[:size]))
            least = min(first[i, unit] for i in members)
            found[members] = found.get(members, 0) + least * influence[unit]
    return found


@pytest.mark.parametrize("max_order", [2, 3, 9])
def test_weight_strengths_are_the_formula(max_order):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((5, 7), (7, 4), (4, 1))]
    found = weight_strengths(weights, max_order)
    expected = plain_nid(weights, max_order)
    assert found.keys() == expected.keys() and max(map(len, found)) == min(max_order, 5)
    assert_allclose([found[m] for m in expected], list(expected.values()))


def test_hessians_are_second_differences():
    nets = random_nets(smooth=True)
    found, step, ones = hessians(nets).numpy(), 1e-4, np.ones(5)
    for k, (i, j) in itertools.product(range(3), itertools.product(range(5), repeat=2)):
        a, b = step * np.eye(5)[i], step * np.eye(5)[j]
        second = sum(
            s * t * forward(nets, k, ones + s * a + t * b) for s in (1, -1) for t in (1, -1)
        ) / (4 * step**2)
        assert_allclose(found[k, i, j], second, rtol=2e-3, atol=1e-5)
    strengths = gradient_strengths(found[0])
    assert strengths.keys() == set(itertools.combinations(range(5), 2))
    assert_allclose(strengths[1, 3], found[0, 1, 3] ** 2)


def test_adam_is_adam():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(4, 3)), rng.normal(size=(20, 4, 3))
    gradients[:, 0] *= 1e-3
    ours = torch.tensor(start)
    adam = Adam([ours], 0.01)
    theirs = torch.tensor(start, requires_grad=True)
    reference = torch.optim.Adam([theirs], lr=0.01)
    for g in gradients:
        adam.update([torch.tensor(g)])
        theirs.grad = torch.tensor(g)
        reference.step()
    assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-9)
    rest = [ours[2:].clone()]
    adam.take(rest, torch.tensor([False, False, True, True]))
    adam.update([torch.tensor(gradients[0][2:])])
    theirs.grad = torch.tensor(gradients[0])
    reference.step()
    assert_allclose(rest[0].numpy(), theirs.detach().numpy()[2:], rtol=1e-9)


def test_main_effects_are_taken_out():
    rng = np.random.default_rng(0)
    masks = random_masks(2, 300, 6, rng).astype(float)
    slopes = rng.normal(size=(2, 6))
    linear = 3 + np.einsum("npd,nd->np", masks, slopes)
    assert (without_main_effects(masks, linear) == 0).all()
    product = masks[..., 0] * masks[..., 1]
    left = without_main_effects(masks, linear + product)
    for k in range(2):
        design = np.column_stack([np.ones(300), masks[k]])
        expected = product[k] - design @ np.linalg.lstsq(design, product[k], rcond=None)[0]
        assert_allclose(left[k], expected, atol=1e-6)
    constant = masks.copy()
    constant[..., 2] = 1  # an input that is never off
    assert np.isfinite(without_main_effects(constant, linear + product)).all()


def planted(seed, n=4, n_masks=600, noise=0.0):
    """Additive, but for 2 z1 z2 - 1.5 z4 z5."""
    rng = np.random.default_rng(seed)
    masks = random_masks(n, n_masks, 8, rng)
    y = (
        masks @ rng.normal(size=8)
        + 2.0 * masks[..., 1] * masks[..., 2]
        - 1.5 * masks[..., 4] * masks[..., 5]
    )
    return masks, y + noise * rng.normal(size=y.shape)


def ranked(found):
    mean = {}
    for strengths in found:
        for members, s in strengths.items():
            mean[members] = mean.get(members, 0) + s / len(found)
    return sorted(mean.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("seed", range(5))
def test_planted_interactions_come_first(seed):
    masks, y = planted(seed)
    for detector, plan, ratio in (("nid", NID, 3), ("gradient_nid", GRADIENT_NID, 10)):
        (first, a), (second, b), (_, c), *_ = ranked(detect(masks, y, detector, 2, plan, seed))
        assert (first, second) == ((1, 2), (4, 5)) and b > ratio * c
        assert detector != "nid" or (abs(a - 2) < 0.5 and abs(b - 1.5) < 0.5)  # in the unit of y
    # The control: with the masks shuffled the answers say nothing.
    shuffled = np.random.default_rng(seed).permutation(masks, axis=1)
    top = ranked(detect(shuffled, y, "nid", 2, NID, seed))
    assert {top[0][0], top[1][0]} != {(1, 2), (4, 5)}


def test_triples_are_sets_of_their_own():
    rng = np.random.default_rng(0)
    masks = random_masks(4, 600, 8, rng)
    y = masks @ rng.normal(size=8) + 2.0 * masks[..., 1] * masks[..., 2] * masks[..., 3]
    (first, a), (_, b), *_ = ranked(detect(masks, y, "nid", 3, NID, 0))
    assert first == (1, 2, 3) and a > b


def test_sums_and_constants_have_no_interactions():
    masks, _ = planted(0, n=3)
    additive = masks @ np.arange(8.0)
    additive[1] = 7.0
    for detector, plan in (("nid", NID), ("gradient_nid", GRADIENT_NID)):
        assert all(
            s == 0 for one in detect(masks, additive, detector, 2, plan, 0) for s in one.values()
        )


def test_units_scale_strengths():
    masks, y = planted(1, n=2)
    for detector, plan, power in (("nid", NID, 1), ("gradient_nid", GRADIENT_NID, 2)):
        one, other = (detect(masks, u * y + 1, detector, 2, plan, 0) for u in (1, 1024.0))
        assert_allclose(
            [other[0][m] for m in one[0]],
            [1024.0**power * s for s in one[0].values()],
            rtol=1e-2,
            atol=1e-3,
        )


def test_nets_stop_one_by_one_at_their_best(monkeypatch):
    masks, y = planted(0, n=6, noise=0.5)
    # Nothing to learn: these stop at once.
    y[3:] = np.random.default_rng(0).normal(size=y[3:].shape)
    standard = (y - y.mean(1, keepdims=True)) / y.std(1, keepdims=True)
    taken = []
    take = Perceptrons.take
    monkeypatch.setattr(Perceptrons, "take", lambda self, nets: taken.append(1) or take(self, nets))
    nets = fit_perceptrons(masks, standard, NID, torch.Generator().manual_seed(0))
    assert len(taken) > 1  # some were left behind
    z, t = torch.from_numpy(masks[:, -75:]).float(), torch.from_numpy(standard[:, -75:]).float()
    loss = (nets(z) - t).square().mean(1)
    # Never worse on the held-out masks than after one epoch.
    once = fit_perceptrons(
        masks, standard, replace(NID, max_epochs=1), torch.Generator().manual_seed(0)
    )
    assert (loss <= (once(z) - t).square().mean(1) + 1e-6).all()
    assert (loss[:3] < 0.5 * loss[3:].min()).all()


def test_masks_are_those_of_the_paper():
    masks = random_masks(4, 4000, 6, np.random.default_rng(0))
    assert masks.shape == (4, 4000, 6) and (masks[:, 0] == 1).all()
    dropped = (1 - masks[:, 1:]).sum(-1)
    assert_allclose(
        np.bincount(dropped.ravel(), minlength=7) / dropped.size, [0, *[1 / 6] * 6], atol=0.01
    )
    assert_allclose(masks[:, 1:].mean((0, 1)), 1 - 3.5 / 6, atol=0.02)


def test_no_global_state():
    state = torch.get_rng_state()
    masks, y = planted(0, n=2, n_masks=200)
    one, other = (detect(masks, y, "nid", 2, NID, 5) for _ in range(2))
    assert one == other and detect(masks, y, "nid", 2, NID, 6) != one
    assert_array_equal(torch.get_rng_state(), state)
    alone = detect(masks[:1], y[:1], "nid", 2, NID, 5)
    assert len(alone) == 1
