"""The search of AEFE: strong pairs of columns, features of them, and the few that a model gains
from.
"""

import itertools
import math
import time
from numbers import Integral

import numpy as np
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import check_cv
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ...utils._sklearn import check_y
from .._reading import checked_encoder, column_edges, column_ids, column_sizes, select
from ._cascade import Cascade, Data
from ._pair_features import Feature, features_of, random_folds
from ._pair_strength import pair_strengths


class PairSearch:
    """From encoded columns to selected features.

    Parameters
    ----------
    options : AEFE
    classification : bool
    rng : RandomState
    deadline : float
        `time.monotonic` after which nothing new is tried.
    progress : FitProgress

    Attributes
    ----------
    strengths : dict of (int, int) to float
        Strength of every pair of columns, strongest first.
    counts : dict of str to int
        Candidates left after each stage.
    gains : list of float
        Of the selected features.
    base_score, history, interrupted
        As of `Cascade`.
    """

    def __init__(self, options, classification, rng, deadline, progress):
        self.options, self.classification, self.rng = options, classification, rng
        self.deadline, self.progress = deadline, progress
        self.strengths, self.gains, self.history, self.base_score = {}, [], [], math.nan
        self.interrupted = False
        self.counts = dict.fromkeys(("pairs", "constructed", "filter", "embedded", "wrapper"), 0)

    def run(self, ids, sizes, categorical, numbers, y, targets):
        """The selected features, in the order of their selection.

        Parameters
        ----------
        ids, sizes : dict of int to ndarray, dict of int to int
            Of the columns to pair, by position.
        categorical : set of int
            Columns that the wrapper's estimator sees as target means.
        numbers : float32 ndarray of shape (n_rows, n_numbers)
            What it sees of the others.
        y : ndarray of shape (n_rows,)
        targets : float64 ndarray of shape (n_rows, C)
        """
        with self.progress.task("pairs"):
            self._rank(ids, targets)
        pairs = list(self.strengths)[: self.options.n_pairs]
        self.counts["pairs"] = len(pairs)
        candidates = [
            feature for pair in pairs for feature in features_of(pair, self.options.paradigms)
        ]
        if not candidates or not self.options.max_features:
            return []
        single = [Feature("mean", (i,)) for i in sorted(categorical)]
        data = Data(ids, sizes, single, numbers, y, targets, self.options)
        cascade = Cascade(
            data,
            self._splits(y),
            self._estimator(),
            self.classification,
            self.rng,
            self.deadline,
            self.progress,
        )
        selected, self.gains = cascade.run(candidates)
        self.counts |= cascade.counts
        self.base_score, self.history = cascade.base_score, cascade.history
        self.interrupted = cascade.interrupted
        return selected

    def _rank(self, ids, targets):
        """Set the strengths of all pairs."""
        fields = list(ids)
        if len(fields) < 2:
            return
        if not self.classification:
            targets = (targets - targets.mean(0)) / (targets.std(0) or 1)
        strengths = pair_strengths(
            list(ids.values()),
            targets,
            self.classification,
            n_factors=self.options.n_factors,
            max_epochs=self.options.max_epochs,
            seed=self.rng.randint(2**31 - 1),
            within=lambda: time.monotonic() < self.deadline and not self.progress.stopped,
            on_epoch=lambda: self.progress.step("epoch"),
        )
        every = sorted(
            itertools.combinations(range(len(fields)), 2), key=lambda pair: -strengths[pair]
        )
        self.strengths = {(fields[a], fields[b]): float(strengths[a, b]) for a, b in every}

    def _estimator(self):
        if self.options.estimator is not None:
            return self.options.estimator
        return make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000) if self.classification else Ridge()
        )

    def _splits(self, y):
        """Training and test rows of each fold of the wrapper."""
        cv = self.options.cv
        if not isinstance(cv, Integral):
            return list(
                check_cv(cv, y, classifier=self.classification).split(np.zeros((len(y), 1)), y)
            )
        folds = random_folds(y, min(cv, len(y)), self.rng, self.classification)
        return [
            (np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(folds.max() + 1)
        ]


def read_targets(y, options):
    """Whether they are classes, the classes if there are more than two, and float64 (n_rows,
    n_means).
    """
    kind = type_of_target(y, input_name="y")
    classification = (
        kind != "continuous" if options.estimator is None else is_classifier(options.estimator)
    )
    if not classification:
        if len(y) < 2:
            raise ValueError(f"AEFE needs two rows or more, got n_samples = {len(y)}.")
        return False, None, check_y(y, options, y_numeric=True).astype(np.float64)[:, None]
    check_classification_targets(y)
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or np.sort(counts)[-2] < 2:
        raise ValueError(
            f"y must have two classes with two rows each or more, got {len(classes)} class(es) in "
            f"{len(y)} sample(s): "
            f"{dict(zip(classes[:5].tolist(), counts[:5].tolist(), strict=True))}. For ratings "
            f"give a regressor as estimator."
        )
    if len(classes) == 2:
        return True, None, (y == classes[1]).astype(np.float64)[:, None]
    return True, classes, (y[:, None] == classes).astype(np.float64)


def encoded(aefe, X, positions):
    """Encoder, encoded table, edges of bins, ids and their numbers by position, of some columns."""
    encoder = checked_encoder(aefe.encoder)
    table = encoder.fit_encode(select(X, positions, aefe._names, aefe.n_features_in_))
    edges = column_edges(encoder, positions, aefe._bins)
    ids = column_ids(table, encoder, positions, edges)
    return encoder, table, edges, ids, column_sizes(encoder, positions, edges)


def numbers_of(table, encoder, fields):
    """Scaled numeric columns among some fields, and marks of their missing cells: those that vary,
    float32.
    """
    place = {i: j for j, i in enumerate(encoder.numeric_.tolist()) if i in fields}
    m = len(encoder.numeric_)
    numbers = table.numeric[:, [*place.values(), *(m + j for j in place.values())]]
    return numbers[:, numbers.std(0) > 0]
