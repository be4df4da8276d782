"""Strength of pairs of fields by a small factorization machine."""

import itertools

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from .._threads import one_thread

LR = 0.01
BATCH_SIZE = 256
STEPS = 300  # of an epoch at most; larger tables have larger batches
STD = 0.1  # of initial factors: with much less, products start too flat to learn
# On the squared norms of the factors of a row: what one value of many cannot pay for stays near
# zero.
L2 = 0.02
PATIENCE = 2
PART_OF_VALIDATION = 5
ROWS_OF_STRENGTH = 20_000
MOST_MACHINES = 5
ROWS_OF_MACHINES = 10_000


class FactorizationMachine:
    """logit_c(x) = b_c + sum_i w_{i, c}(x_i) + sum_{i<j} <v_{i, c}(x_i), v_{j, c}(x_j)> for outputs
    c = 1..C.

    Parameters
    ----------
    n_ids : int
        Ids of all fields together.
    n_outputs, n_factors : int
    generator : torch.Generator
    """

    def __init__(self, n_ids, n_outputs, n_factors, generator):
        self.factors = STD * torch.randn(n_ids, n_outputs, n_factors, generator=generator)
        self.weights, self.bias = torch.zeros(n_ids, n_outputs), torch.zeros(n_outputs)
        self.tensors = [self.factors, self.weights, self.bias]

    def __call__(self, ids):
        """Ids (B, F) to logits (B, C) and the mean squared norm of a row's factors."""
        v = self.factors[ids]  # (B, F, C, k)
        squares = v.square().sum((1, 3))
        pairs = (v.sum(1).square().sum(2) - squares) / 2
        return self.bias + self.weights[ids].sum(1) + pairs, squares.sum(1).mean()


def fit_machine(
    ids,
    n_ids,
    targets,
    logistic,
    n_factors,
    max_epochs,
    seed,
    within=lambda: True,
    on_epoch=lambda: None,
):
    """Train by Adam until rows held out do not gain.

    Parameters
    ----------
    ids : int64 ndarray of shape (n_rows, F)
        Below n_ids, different ranges for different fields.
    n_ids : int
    targets : ndarray of shape (n_rows, C)
        0/1, or numbers of unit variance.
    logistic : bool
    n_factors, max_epochs, seed : int
    within : callable
        No epoch begins when it is no longer true.
    on_epoch : callable
        Called after each.

    Returns
    -------
    FactorizationMachine
        With the factors of the best epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    model = FactorizationMachine(n_ids, targets.shape[1], n_factors, generator)
    loss_of = binary_cross_entropy_with_logits if logistic else mse_loss
    x, y = torch.from_numpy(ids), torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
    order = torch.randperm(len(x), generator=generator)
    n_valid = max(len(x) // PART_OF_VALIDATION, 1)
    valid, train = order[:n_valid], order[n_valid:] if len(x) > 1 else order
    batch = max(BATCH_SIZE, len(train) // STEPS)
    optimizer = torch.optim.Adam([t.requires_grad_() for t in model.tensors], lr=LR)
    best, wait, kept = np.inf, 0, model.factors.detach().clone()
    for _ in range(max_epochs):
        if not within():
            break
        for rows in train[torch.randperm(len(train), generator=generator)].split(batch):
            optimizer.zero_grad()
            with torch.enable_grad():
                logits, norm = model(x[rows])
                (loss_of(logits, y[rows]) + L2 * norm).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(
                sum(loss_of(model(x[r])[0], y[r], reduction="sum") for r in valid.split(4096))
            )
        on_epoch()
        if loss < best:
            best, wait, kept = loss, 0, model.factors.detach().clone()
        else:
            wait += 1
            if wait == PATIENCE:
                break
    model.factors = kept
    return model


def mean_products(vectors):
    """Mean absolute inner products of centred factors, averaged over outputs.

    Parameters
    ----------
    vectors : float ndarray of shape (n_rows, F, C, k)
        Factors of each field in each row.

    Returns
    -------
    ndarray of shape (F, F)
        The part of a product that one field alone explains is left out, since it is no interaction.
    """
    centred = vectors - vectors.mean(0)
    n_fields = centred.shape[1]
    strengths = np.zeros((n_fields, n_fields))
    for i, j in itertools.combinations(range(n_fields), 2):
        products = np.einsum("nck,nck->nc", centred[:, i], centred[:, j])
        strengths[i, j] = strengths[j, i] = np.abs(products).mean()
    return strengths


def pair_strengths(ids, targets, logistic, seed, **options):
    """Strength of each pair of fields, (F, F), symmetric.

    Of few rows one machine learns this pair or that, by chance; the strengths of several are
    averaged.

    Parameters
    ----------
    ids : list of F int ndarray of shape (n_rows,)
        Ids of each field.
    targets, logistic, seed, **options
        As of `fit_machine`.
    """
    sizes = [int(column.max()) + 1 for column in ids]
    table = np.column_stack(ids).astype(np.int64) + np.cumsum([0, *sizes[:-1]])
    step = -(-len(table) // ROWS_OF_STRENGTH)
    n_machines = int(np.clip(-(-ROWS_OF_MACHINES // len(table)), 1, MOST_MACHINES))
    seeds = np.random.default_rng(seed).integers(2**31, size=n_machines)
    total = np.zeros((len(ids), len(ids)))
    for machine_seed in seeds.tolist():
        with one_thread():
            model = fit_machine(table, sum(sizes), targets, logistic, seed=machine_seed, **options)
        total += mean_products(model.factors.numpy()[table[::step]].astype(np.float64))
    return total / n_machines
