"""Which column blocks of embeddings groups of values keep: configurations, and what they are worth
by an estimator that has seen some of them.
"""

import numpy as np
from scipy.stats import spearmanr

from ..engine import RegularizedEvolution
from ..nn._budget import stored_bytes
from ..nn._storage import ELEMENT_BYTES, SCALE

PENALTIES = np.logspace(-5, 2, 15)  # of the estimator, for scores of variance one

WHOLE = 0.25  # of the steps of a search train everything
NOISE = 0.2  # in the order of blocks by worth, in units of their number


class BlockSpace:
    """Configurations {"blocks": [[...], ...]}: of each group the numbers of its column blocks.

    A configuration is valid if its bytes are within the budget and no further block fits. Repairs
    take away and add blocks in the order of their worth per byte, as noise has shuffled it.

    Parameters
    ----------
    sizes : int ndarray (G,)
        Rows of each group.
    widths : int ndarray (N,)
        Columns of each block.
    budget : int
        Bytes.
    worth : ndarray (G * N,)
        What a block adds to the score.
    random : numpy.random.Generator
        Of the repairs.
    tables : TableCosts or None, default=None
        What the numbers of a table take; None is float32.
    """

    def __init__(self, sizes, widths, budget, worth, random, tables=None):
        self.numbers = np.outer(sizes, widths)
        self.tables = TableCosts(np.zeros(len(sizes), int), sizes) if tables is None else tables
        self.table = np.repeat(self.tables.of_group, len(widths))  # of each block
        self.budget, self.random = budget, random
        # Beside whole tables, so that what is worth most is not up to what else is kept.
        per_byte = worth / (self.numbers * self.tables.per_number[:, None]).ravel()
        self.rank = per_byte.argsort().argsort() / max(len(per_byte), 1)

    @staticmethod
    def bits(configuration, shape):
        """Which blocks a configuration has, bool ndarray of a shape (G, N)."""
        bits = np.zeros(shape, bool)
        for own, blocks in zip(bits, configuration["blocks"], strict=True):
            own[blocks] = True
        return bits

    @staticmethod
    def configuration(bits):
        """The configuration of a bool ndarray (G, N)."""
        return {"blocks": [np.flatnonzero(own).tolist() for own in bits]}

    def draw(self, random):
        """A configuration without blocks, for `repair` to fill."""
        return self.configuration(np.zeros(self.numbers.shape, bool))

    def mutate(self, configuration, random):
        """A copy with one change: two groups exchange their blocks, a group gets as many others,
        or one block comes or goes.
        """
        bits = self.bits(configuration, self.numbers.shape)
        n_groups, n_blocks = bits.shape
        kind = random.integers(3)
        if kind == 0 and n_groups > 1:
            pair = random.choice(n_groups, 2, replace=False)
            bits[pair] = bits[pair[::-1]]
        elif kind == 1:
            group = random.integers(n_groups)
            bits[group] = bits[group][random.permutation(n_blocks)]
        else:
            block = random.integers(n_groups), random.integers(n_blocks)
            bits[block] = ~bits[block]
        return self.configuration(bits)

    def repair(self, configuration):
        """The configuration with blocks taken away until it fits, and others added while they
        fit.
        """
        shape, bytes_of = self.numbers.shape, self.tables.bytes_of
        bits, order = self.bits(configuration, shape).ravel(), self._order()
        in_table = np.bincount(self.table, self.numbers.ravel() * bits, len(self.tables.n_rows))
        kept = [int(n) for n in in_table]  # numbers of each table
        taken = [bytes_of(t, n) for t, n in enumerate(kept)]
        used = sum(taken)
        blocks = [*zip(self.table.tolist(), self.numbers.ravel().tolist(), strict=True)]
        for block in order[::-1][bits[order[::-1]]].tolist():
            if used <= self.budget:
                break
            t, n = blocks[block]
            less = bytes_of(t, kept[t] - n)
            used, taken[t], kept[t] = used + less - taken[t], less, kept[t] - n
            bits[block] = False
        for block in order[~bits[order]].tolist():
            t, n = blocks[block]
            more = bytes_of(t, kept[t] + n)
            if used + more - taken[t] <= self.budget:
                used, taken[t], kept[t] = used + more - taken[t], more, kept[t] + n
                bits[block] = True
        return self.configuration(bits.reshape(shape))

    def _order(self):
        """Blocks, roughly the best first."""
        return np.argsort(-self.rank + NOISE * self.random.normal(size=self.rank.shape))


class TableCosts:
    """What the numbers of tables take in their storage.

    Parameters
    ----------
    of_group : int ndarray (G,)
        Table of each group.
    n_rows : int ndarray (T,)
        Rows of each table.
    kinds : list of str, length T, or None, default=None
        See `stored_bytes`; None is float32.
    embedding_dim : int, default=1
    """

    def __init__(self, of_group, n_rows, kinds=None, embedding_dim=1):
        kinds = ["float32"] * len(n_rows) if kinds is None else kinds
        self.of_group, self.n_rows, self.kinds = of_group, [int(n) for n in n_rows], kinds
        # Of whole vectors, a scale included.
        whole = stored_bytes(np.full(len(kinds), embedding_dim), np.ones(len(kinds)), kinds)
        self.per_number = (whole / embedding_dim)[of_group]

    def bytes_of(self, table, n_numbers):
        """Bytes of so many numbers of a table, int; as `stored_bytes`, which is for arrays."""
        if self.kinds[table] == "int8":
            half = ELEMENT_BYTES["float16"] * n_numbers
            return min(n_numbers + SCALE * self.n_rows[table], half)
        return ELEMENT_BYTES[self.kinds[table]] * n_numbers


class AnyBlocks:
    """All configurations. A quarter of the draws have all blocks; the others have any number of
    them with equal probability.
    """

    def __init__(self, n_groups, n_blocks):
        self.shape = n_groups, n_blocks

    def draw(self, random):
        """A configuration whose blocks are kept with one probability, which is drawn itself."""
        share = 1.0 if random.random() < WHOLE else random.random()
        return BlockSpace.configuration(random.random(self.shape) < share)


def fittest(estimator, space, generator, n_evaluations, population, n_best):
    """The configurations of highest estimate that an evolution comes across, the best first.

    Parameters
    ----------
    estimator : ScoreEstimator
    space : BlockSpace
    generator : torch.Generator
    n_evaluations, population : int
        See `RegularizedEvolution`.
    n_best : int
        Fewer come back if there are not so many.

    Returns
    -------
    list of dict
    """
    evolution = RegularizedEvolution(
        space,
        generator,
        n_evaluations=n_evaluations,
        population=population,
        tournament=max(population // 4, 1),
        batch_size=max(population // 2, 1),
    )
    seen = []
    while candidates := evolution.ask():
        shape = space.numbers.shape
        bits = np.array([space.bits(candidate, shape).ravel() for candidate in candidates])
        scores = estimator.predict(bits).tolist()
        evolution.tell(scores)
        seen += zip(scores, candidates, strict=True)
    return [candidate for _, candidate in sorted(seen, key=lambda pair: -pair[0])[:n_best]]


class ScoreEstimator:
    """Scores of configurations, by ridge regression on single bits and products of two of them.

    The kernel is k(x, x') = (1 + x . x' / P)^2 for centred bits x of length P. The penalty is
    that of the smallest leave-one-out error.

    Parameters
    ----------
    bits : bool ndarray (n, P)
    scores : ndarray (n,)

    Attributes
    ----------
    rank_correlation : float
        Between the scores and their leave-one-out estimates; None where all are the same.
    """

    def __init__(self, bits, scores):
        self.known = np.where(bits, 1.0, -1.0)
        self.mean, self.scale = float(np.mean(scores)), float(np.std(scores)) or 1.0
        y = (np.asarray(scores) - self.mean) / self.scale
        values, vectors = np.linalg.eigh(self._kernel(self.known))
        projected, best = vectors.T @ y, None
        for penalty in PENALTIES:
            inverse = 1 / (np.maximum(values, 0) + penalty)
            weights = vectors @ (inverse * projected)
            errors = weights / ((vectors**2) @ inverse)
            if best is None or (errors**2).sum() < best[0]:
                best = (errors**2).sum(), weights, y - errors
        _, self.weights, left_out = best
        self.rank_correlation = None
        if np.ptp(y) and np.ptp(left_out):
            self.rank_correlation = float(spearmanr(y, left_out)[0])

    def _kernel(self, x):
        return (1 + x @ self.known.T / x.shape[1]) ** 2

    def predict(self, bits):
        """Estimates of configurations (n, P), ndarray (n,)."""
        x = np.where(bits, 1.0, -1.0)
        return self.mean + self.scale * (self._kernel(x) @ self.weights)

    def worth(self):
        """What each bit adds where the others are as likely set as not, ndarray (P,)."""
        # The gradient at 0, times the 2 that lie between the states of a bit.
        return 4 * self.scale * (self.weights @ self.known) / self.known.shape[1]
