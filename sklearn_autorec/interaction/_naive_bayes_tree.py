"""Evolution of strings that a tree of Naive Bayes classifiers guides."""

import numpy as np

RETRIES = 50  # children of a leaf that are drawn before one outside of it is taken
MIN_LEAF = 12  # strings; what has fewer is not split off


class NaiveBayesTree:
    """Strings sorted into better and worse by Naive Bayes classifiers, again and again.

    At a node the better half of its strings by score are the good ones, and a Naive Bayes
    classifier (Laplace smoothing, equal priors) learns to tell them from the others. What it takes
    for good goes left. The leaf on the far left holds what is best throughout.

    Parameters
    ----------
    strings : int ndarray of shape (N, L)
        Choices below ``n_choices``.
    scores : ndarray of shape (N,)
        Higher is better.
    n_choices : int
    depth : int
        Splits from the root to a leaf, at most.
    """

    def __init__(self, strings, scores, n_choices, depth):
        self.strings, self.n_choices = strings, n_choices
        self.rank = np.empty(len(scores), np.int64)  # ranks, since scores may be equal
        self.rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
        self.nodes: list = []  # (evidence (L, n_choices), left, right); leaves are negative
        self.leaves: list = []  # rows of a leaf, from left to right
        self.root = self._grow(np.arange(len(scores)), depth)

    def _grow(self, rows, depth):
        if depth and len(rows) >= 2:
            evidence = self.evidence(rows)
            good = _says_good(evidence, self.strings[rows])
            if min(good.sum(), (~good).sum()) >= MIN_LEAF:
                node = len(self.nodes)
                self.nodes.append(None)
                left = self._grow(rows[good], depth - 1)
                right = self._grow(rows[~good], depth - 1)
                self.nodes[node] = (evidence, left, right)
                return node
        self.leaves.append(rows)
        return -len(self.leaves)

    def evidence(self, rows):
        """log P(choice | good) - log P(choice | not) of every position, (L, n_choices)."""
        order = rows[np.argsort(self.rank[rows])]
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        good, other = (
            np.log((self._counts(half) + 1) / (len(half) + self.n_choices)) for half in halves
        )
        return good - other

    def _counts(self, rows):
        return (self.strings[rows, :, None] == np.arange(self.n_choices)).sum(0)

    def leaf_of(self, string):
        """Number of the leaf in which a string ends."""
        node = self.root
        while node >= 0:
            evidence, left, right = self.nodes[node]
            node = left if _says_good(evidence, string[None])[0] else right
        return -node - 1


def _says_good(evidence, strings):
    """Whether Naive Bayes takes strings (N, L) for good, bool (N,)."""
    return evidence[np.arange(strings.shape[1]), strings].sum(1) > 0


def tree_search(
    length, n_choices, rng, *, n_initial=40, depth=4, concentration=1.0, n_mutations=2, n_children=5
):
    """Strings that evolve in the leaves of a `NaiveBayesTree`; a generator without end but that of
    the strings.

    Parameters
    ----------
    length, n_choices : int
        L, and the choices at each position.
    rng : numpy.random.Generator
    n_initial : int
        Random strings before the first tree.
    depth : int
        Of the tree.
    concentration : float
        Of the Chinese restaurant process: a leaf is chosen with a probability proportional to the
        number of its strings in the better half of all; with one proportional to this number, any
        leaf.
    n_mutations : int
        Positions of a child that are drawn anew.
    n_children : int
        Strings between two trees.

    Yields
    ------
    list of int ndarray of shape (L,)
        New strings; their scores are to be sent, NaN for those that failed.
    """
    seen: set = set()

    def is_new(string):
        return tuple(string.tolist()) not in seen

    def ask(strings):
        seen.update(tuple(string.tolist()) for string in strings)
        return strings

    n_strings = float(n_choices) ** length  # may be infinite
    initial: list = []
    while len(initial) < min(n_initial, n_strings):
        string = rng.integers(0, n_choices, length)
        if is_new(string):
            initial += ask([string])
    strings, scores = np.array(initial).reshape(-1, length), (yield initial)
    scores = np.nan_to_num(np.asarray(scores, float), nan=-np.inf)
    while len(seen) < n_strings:
        tree, children = NaiveBayesTree(strings, scores, n_choices, depth), []
        while len(children) < n_children and len(seen) < n_strings:
            leaf = _choose_leaf(tree, concentration, rng)
            parents = tree.leaves[leaf][np.argsort(tree.rank[tree.leaves[leaf]])[:2]]
            child = None
            for _ in range(RETRIES):
                drawn = _child(strings[parents], n_choices, n_mutations, rng)
                child = drawn if is_new(drawn) else child
                if is_new(drawn) and tree.leaf_of(drawn) == leaf:
                    break
            while child is None:  # all around the parents is known
                drawn = rng.integers(0, n_choices, length)
                child = drawn if is_new(drawn) else None
            children += ask([child])
        told = yield children
        strings = np.concatenate([strings, children])
        scores = np.append(scores, np.nan_to_num(np.asarray(told, float), nan=-np.inf))


def _choose_leaf(tree, concentration, rng):
    """A leaf by the Chinese restaurant process."""
    n_good = np.array([(tree.rank[rows] < len(tree.rank) // 2).sum() for rows in tree.leaves])
    weights = n_good + concentration / len(n_good)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _child(parents, n_choices, n_mutations, rng):
    """The first half of one parent, the second of the other, with some positions drawn anew."""
    child, middle = parents[0].copy(), len(parents[0]) // 2
    child[middle:] = parents[-1][middle:]
    where = rng.integers(0, len(child), n_mutations)
    child[where] = rng.integers(0, n_choices, n_mutations)
    return child
