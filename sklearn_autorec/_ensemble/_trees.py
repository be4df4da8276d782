"""Sums of regression trees as arrays: grown by scikit-learn's histogram boosting, read
without it.
"""

import threading

import numpy as np

from ..utils._sklearn import PREDICTOR_RECORD_DTYPE, TreePredictor, trees_of

FEW_ROWS = 16  # up to so many rows, all trees are walked at once
_building = threading.Lock()
_NO_CATEGORIES = np.zeros((0, 8), np.uint32)


class TreeSum:
    """A start value plus the values of the leaves that a row reaches in each tree.

    A row goes left at a node if its feature is at most the threshold; NaN goes where the node says.
    Nodes of all trees stand one after the other; a leaf points to itself.

    Parameters
    ----------
    start : float
    roots : int32 ndarray of shape (n_trees,)
        Position of the first node of each tree.
    feature : int16 ndarray of shape (n_nodes,)
    threshold : float64 ndarray of shape (n_nodes,)
    missing_left : bool ndarray of shape (n_nodes,)
    left, right : int32 ndarray of shape (n_nodes,)
        Positions among all nodes.
    value : float64 ndarray of shape (n_nodes,)
        Of leaves; 0 elsewhere.
    n_features : int
    """

    NAMES = (
        "start",
        "roots",
        "feature",
        "threshold",
        "missing_left",
        "left",
        "right",
        "value",
        "n_features",
    )

    def __init__(
        self, start, roots, feature, threshold, missing_left, left, right, value, n_features
    ):
        self.start, self.n_features = float(start), int(n_features)
        self.roots, self.feature, self.threshold = roots, feature, threshold
        self.missing_left, self.left, self.right, self.value = missing_left, left, right, value
        self._walkers = self._depth = self._children = None

    @classmethod
    def of(cls, boosting):
        """The trees of a fitted ``HistGradientBoosting*`` with one output and no categorical
        features.
        """
        trees, start = trees_of(boosting)
        lengths = [len(nodes) for nodes in trees]
        roots = np.cumsum([0, *lengths])[:-1].astype(np.int32)
        nodes = np.concatenate(trees) if trees else np.zeros(0, PREDICTOR_RECORD_DTYPE)
        offsets = np.repeat(roots, lengths)
        leaf, own = nodes["is_leaf"] > 0, np.arange(len(nodes))
        left, right = (
            np.where(leaf, own, nodes[side] + offsets).astype(np.int32)
            for side in ("left", "right")
        )
        return cls(
            start,
            roots,
            np.where(leaf, 0, nodes["feature_idx"]).astype(np.int16),
            np.where(leaf, 0.0, nodes["num_threshold"]),
            nodes["missing_go_to_left"] > 0,
            left,
            right,
            np.where(leaf, nodes["value"], 0.0),
            boosting.n_features_in_,
        )

    @classmethod
    def joined(cls, sums):
        """The sum of several sums."""
        if len(sums) == 1:
            return sums[0]
        offsets = np.cumsum([0, *(len(one.feature) for one in sums)])[:-1].tolist()
        arrays = {
            name: np.concatenate([getattr(one, name) for one in sums])
            for name in ("feature", "threshold", "missing_left", "value")
        }
        for name in ("roots", "left", "right"):
            moved = [getattr(one, name) + start for one, start in zip(sums, offsets, strict=True)]
            arrays[name] = np.concatenate(moved).astype(np.int32)
        return cls(start=sum(one.start for one in sums), n_features=sums[0].n_features, **arrays)

    def __len__(self):
        return len(self.roots)

    @property
    def nbytes(self):
        """Bytes of the arrays."""
        return sum(getattr(self, name).nbytes for name in self.NAMES[1:-1])

    @property
    def depth(self):
        """Steps after which every row is at a leaf."""
        if self._depth is None:
            places, depth = self.roots, 0
            while len(places):
                inner = places[self.left[places] != places]
                places = np.concatenate([self.left[inner], self.right[inner]])
                depth += len(inner) > 0
            self._depth = depth
        return self._depth

    def first(self, n_trees):
        """The sum of the first trees alone."""
        stop = int(self.roots[n_trees]) if n_trees < len(self.roots) else len(self.feature)
        arrays = {name: getattr(self, name) for name in self.NAMES}
        for name in self.NAMES[2:-1]:
            arrays[name] = arrays[name][:stop].copy()
        return TreeSum(**arrays | {"roots": self.roots[:n_trees].copy()})

    def predict(self, features):
        """Sums of the trees.

        Parameters
        ----------
        features : float ndarray of shape (n_rows, n_features)
            NaN where missing.

        Returns
        -------
        float64 ndarray of shape (n_rows,)
            The same bits for a row alone and in any table.
        """
        n, t = len(features), len(self.roots)
        if not t:
            return np.full(n, self.start)
        if n <= FEW_ROWS:
            return self._walk(features)
        if self._walkers is None:
            with _building:
                if self._walkers is None:
                    self._walkers = self._make_walkers()
        rows = np.ascontiguousarray(features, dtype=np.float64)
        indices = np.zeros(self.n_features, np.uint32)
        total = np.full(n, self.start)
        for walker in self._walkers:
            total += walker.predict(rows, _NO_CATEGORIES, indices, 1)
        return total

    def _walk(self, features):
        """All trees at once, level by level."""
        n, t = len(features), len(self.roots)
        if self._children is None:
            # Both children of a node side by side, and features as numbers that need no conversion.
            children = np.stack([self.right, self.left], 1).ravel().astype(np.int64)
            self._children = children, self.feature.astype(np.int64)
        children, feature_of = self._children
        flat = features.astype(np.float64).ravel()
        any_missing = bool(np.isnan(flat).any())
        first = np.repeat(np.arange(n) * features.shape[1], t) if n > 1 else 0
        at = np.tile(self.roots, n).astype(np.int64)
        with np.errstate(invalid="ignore"):
            for _ in range(self.depth):
                x = flat.take(feature_of.take(at) + first)
                go_left = x <= self.threshold.take(at)
                if any_missing:
                    go_left |= np.isnan(x) & self.missing_left.take(at)
                at = children.take(2 * at + go_left)
        values = np.empty((n, t + 1))
        values[:, 0], values[:, 1:] = self.start, self.value.take(at).reshape(n, t)
        return np.cumsum(values, axis=1)[:, -1]  # one after the other, as over many rows

    def _make_walkers(self):
        stops = [*self.roots[1:].tolist(), len(self.feature)]
        walkers = []
        for start, stop in zip(self.roots.tolist(), stops, strict=True):
            nodes = np.zeros(stop - start, PREDICTOR_RECORD_DTYPE)
            own = np.arange(start, stop)
            nodes["is_leaf"] = self.left[start:stop] == own
            nodes["feature_idx"], nodes["num_threshold"] = (
                self.feature[start:stop],
                self.threshold[start:stop],
            )
            nodes["missing_go_to_left"], nodes["value"] = (
                self.missing_left[start:stop],
                self.value[start:stop],
            )
            nodes["left"], nodes["right"] = (
                self.left[start:stop] - start,
                self.right[start:stop] - start,
            )
            walkers.append(TreePredictor(nodes, _NO_CATEGORIES, _NO_CATEGORIES))
        return walkers

    # state
    # ---------------------------------------------------------------------------------------------

    def __getstate__(self):
        return self.state()

    def __setstate__(self, state):
        self.__init__(**state)

    def state(self):
        """Plain values from which the constructor makes the same sum again."""
        return {name: getattr(self, name) for name in self.NAMES}
