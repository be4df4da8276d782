"""Neural interaction detection (NID) on masks: many small perceptrons trained side by side, and
what they say of pairs.

Shapes: N nets, P masks each, d inputs, h1 units in the first layer.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import softplus

BETAS = 0.9, 0.999  # of Adam
EPS = 1e-8
RIDGE = 1e-9
NOTHING = 1e-5  # share of the spread below which what is left is rounding
PART_OF_VALIDATION = 8  # one mask of so many stops the training


@dataclass(frozen=True)
class Training:
    """How the nets are trained.

    Parameters
    ----------
    hidden_units : tuple of int
    smooth : bool
        Softplus instead of ReLU, for second derivatives.
    l1 : float
        Penalty on the absolute weights of the perceptron.
    lr : float
    batch_size : int
        Masks of each net in a step.
    max_epochs : int
    patience : int
        Epochs without a better loss on the held-out masks after which a net stops.
    """

    hidden_units: tuple = (64, 32)
    smooth: bool = False
    l1: float = 0.0
    lr: float = 1e-2
    batch_size: int = 100
    max_epochs: int = 100
    patience: int = 5


NID = Training(l1=2e-3)
# Larger steps jump between the curved places of a smooth net.
GRADIENT_NID = Training(smooth=True, lr=3e-3)


class Perceptrons:
    """N perceptrons with a linear part each: g(z) = w z + W_L a(... a(W_1 z + b_1) ...) + b_L.

    The linear part takes the main effects, which are linear in a mask. Without it, units of the
    first layer mix inputs that only add, and their products of weights look like interactions.

    Parameters
    ----------
    tensors : list of Tensor
        Weights (N, in, out) and biases (N, 1, out) of each layer in turn, then w (N, d, 1).
    smooth : bool
        Softplus instead of ReLU.
    """

    def __init__(self, tensors, smooth):
        self.tensors, self.smooth = tensors, smooth

    @classmethod
    def random(cls, n, d, hidden_units, smooth, generator):
        """Uniform initial values in +-1 / sqrt(inputs), weights of smooth nets in +-sqrt(6 /
        inputs); the linear part starts at zero.

        With weights that small, units of a smooth net are all but linear and take long to see an
        interaction."""
        tensors = []
        sizes = [d, *hidden_units, 1]
        for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
            for shape, squared in (((n, n_in, n_out), 6 if smooth else 1), ((n, 1, n_out), 1)):
                bound = math.sqrt(squared / n_in)
                tensors.append((2 * torch.rand(shape, generator=generator) - 1) * bound)
        return cls([*tensors, torch.zeros(n, d, 1)], smooth)

    @property
    def weights(self):
        """Weights of the layers, each (N, in, out)."""
        return self.tensors[:-1:2]

    def take(self, nets):
        """Copies of some of the nets."""
        return Perceptrons([t.detach()[nets].clone() for t in self.tensors], self.smooth)

    def __call__(self, z):
        """(N, B, d) to (N, B)."""
        h, weights = z, self.weights
        for k, (w, b) in enumerate(zip(weights, self.tensors[1:-1:2], strict=True)):
            h = torch.baddbmm(b, h, w)
            if k + 1 < len(weights):
                h = softplus(h) if self.smooth else torch.relu(h)
        return torch.baddbmm(h, z, self.tensors[-1]).squeeze(-1)


class Adam:
    """Adam over stacked tensors, of which rows can be dropped."""

    def __init__(self, tensors, lr):
        self.tensors, self.lr, self.step = tensors, lr, 0
        self.moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in tensors]

    def update(self, gradients):
        self.step += 1
        one, two = (1 - beta**self.step for beta in BETAS)
        for t, g, (m, v) in zip(self.tensors, gradients, self.moments, strict=True):
            m.lerp_(g, 1 - BETAS[0])
            v.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
            t.addcdiv_(m, v.sqrt().div_(math.sqrt(two)).add_(EPS), value=-self.lr / one)

    def take(self, tensors, nets):
        """Go on with some of the nets, which ``tensors`` holds."""
        self.tensors = tensors
        self.moments = [(m[nets], v[nets]) for m, v in self.moments]


def fit_perceptrons(masks, targets, plan, generator):
    """Train a net for each set of masks, all at once, each with its own early stopping.

    Parameters
    ----------
    masks : ndarray of shape (N, P, d)
        0/1.
    targets : ndarray of shape (N, P)
        Of about unit variance.
    plan : Training
    generator : torch.Generator

    Returns
    -------
    Perceptrons
        With the weights of the epoch that was best on the held-out masks.
    """
    z = torch.from_numpy(np.ascontiguousarray(masks, dtype=np.float32))
    t = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
    n, n_masks, d = z.shape
    n_valid = max(n_masks // PART_OF_VALIDATION, 1) if n_masks > 1 else 0
    # The first mask is the instance itself, on which the nets should be trained.
    z, t, z_valid, t_valid = (
        a
        for part in (slice(n_masks - n_valid), slice(-n_valid or None, None))
        for a in (z[:, part], t[:, part])
    )
    nets = Perceptrons.random(n, d, plan.hidden_units, plan.smooth, generator)
    kept = nets.take(slice(None))
    adam = Adam(nets.tensors, plan.lr)
    best, wait, active = (
        torch.full((n,), math.inf),
        torch.zeros(n, dtype=torch.int64),
        torch.arange(n),
    )
    for _ in range(plan.max_epochs):
        order = torch.randperm(z.shape[1], generator=generator)
        for rows in order.split(plan.batch_size):
            adam.update(_gradients(nets, z[:, rows], t[:, rows], plan.l1))
        with torch.no_grad():
            loss = (nets(z_valid) - t_valid).square().mean(1)
        better = loss < best
        best = torch.where(better, loss, best)
        wait = torch.where(better, 0, wait + 1)
        for into, tensor in zip(kept.tensors, nets.tensors, strict=True):
            into[active[better]] = tensor.detach()[better]
        going = wait < plan.patience
        if not going.any():
            break
        if going.sum() <= len(going) // 2:  # copying costs less than training nets that are done
            nets = nets.take(going)
            adam.take(nets.tensors, going)
            z, t, z_valid, t_valid, best, wait, active = (
                a[going] for a in (z, t, z_valid, t_valid, best, wait, active)
            )
    return kept


def without_main_effects(masks, targets):
    """What least squares on masks (N, P, d) and a constant leave of targets (N, P), float64."""
    z = masks - masks.mean(1, keepdims=True, dtype=np.float64)
    t = targets - targets.mean(1, keepdims=True, dtype=np.float64)
    gram = z.transpose(0, 2, 1) @ z
    # Inputs that are never (or always) off have no slope.
    gram += RIDGE * z.shape[1] * np.eye(z.shape[2])
    slopes = np.linalg.solve(gram, z.transpose(0, 2, 1) @ t[..., None])
    left = t - (z @ slopes)[..., 0]
    return np.where(left.std(1, keepdims=True) > NOTHING * t.std(1, keepdims=True), left, 0)


def _gradients(nets, z, t, l1):
    """Gradients of each net's mean squared error and L1 penalty; nets do not see each other."""
    for tensor in nets.tensors:
        tensor.requires_grad_(True)
    with torch.enable_grad():
        loss = (nets(z) - t).square().mean(1).sum()
        gradients = torch.autograd.grad(loss, nets.tensors)
    for tensor in nets.tensors:
        tensor.requires_grad_(False)
    if l1:
        for gradient, w in zip(gradients[:-1:2], nets.weights, strict=True):
            gradient.add_(w.sign(), alpha=l1)
    return gradients


def weight_strengths(weights, max_order):
    r"""NID of one net: strength of sets of inputs from its weights.

    The influence of a first-layer unit is the product of the absolute weights behind it. In each
    unit inputs are sorted by absolute weight, and each of the leading sets I of two or more gains

    .. math:: \omega(I) \mathrel{+}= z_u \min_{i \in I} |W^1_{i, u}|.

    Parameters
    ----------
    weights : list of ndarray of shape (n_in, n_out)
        Layer by layer, without the linear part.
    max_order : int
        Inputs of a set at most.

    Returns
    -------
    dict of tuple of int to float
    """
    influence = np.abs(weights[-1])
    for w in weights[-2:0:-1]:
        influence = np.abs(w) @ influence
    first = np.abs(weights[0])
    order = np.argsort(-first, axis=0, kind="stable")[:max_order]  # (max_order, h1)
    sizes = np.take_along_axis(first, order, 0) * influence[:, 0]
    found: dict = defaultdict(float)
    for size in range(2, len(order) + 1):
        sets = np.sort(order[:size], axis=0)
        for members, strength in zip(sets.T.tolist(), sizes[size - 1].tolist(), strict=True):
            if strength > 0:
                found[tuple(members)] += strength
    return dict(found)


def hessians(nets):
    """Second derivatives of smooth nets at the mask of ones, (N, d, d)."""
    n, d, _ = nets.weights[0].shape
    z = torch.ones(n, 1, d, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(nets(z).sum(), z, create_graph=True)
        rows = [
            torch.autograd.grad(slope[:, 0, i].sum(), z, retain_graph=True)[0][:, 0]
            for i in range(d)
        ]
    return torch.stack(rows, 1)


def gradient_strengths(hessian):
    """Gradient NID of one net: squared second derivatives of pairs, dict of tuple of int to
    float.
    """
    rows, columns = np.triu_indices(len(hessian), 1)
    squares = hessian[rows, columns].astype(np.float64) ** 2
    return dict(
        zip(zip(rows.tolist(), columns.tolist(), strict=True), squares.tolist(), strict=True)
    )


def detect(masks, targets, detector, max_order, plan, seed):
    """Strengths of sets of inputs, for each net one dict of tuple of int to float.

    Parameters
    ----------
    masks : ndarray of shape (N, P, d)
    targets : ndarray of shape (N, P)
        In any unit; strengths are in the same unit (in its square for "gradient_nid").
    detector : {"nid", "gradient_nid"}
    max_order : int
    plan : Training
    seed : int
    """
    left = without_main_effects(masks, targets)
    scale = left.std(1)
    standard = left / np.where(scale > 0, scale, 1)[:, None]
    nets = fit_perceptrons(masks, standard, plan, torch.Generator().manual_seed(seed))
    if detector == "gradient_nid":
        found = [gradient_strengths(h) for h in hessians(nets).numpy()]
        scale = scale**2
    else:
        weights = [w.numpy().astype(np.float64) for w in nets.weights]
        found = [weight_strengths([w[k] for w in weights], max_order) for k in range(len(masks))]
    return [
        {members: s * value for members, value in one.items()}
        for one, s in zip(found, scale, strict=True)
    ]
