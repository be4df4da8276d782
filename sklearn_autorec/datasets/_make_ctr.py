"""Click data whose right answer is known by construction."""

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, xlogy
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_random_state

from ..utils._typing import Array, RandomState
from ._ctr_checks import _centred, _check_number, _duplicates, _per_field, _tuples, _weighted_std
from ._ctr_truth import CTRTruth

REFERENCE_ROWS = 20_000  # on which the intercept is solved


class CTRProblem:
    """Fixed planted effects from which any number of rows can be drawn; see `make_ctr` for the
    parameters.

    Examples
    --------
    >>> problem = CTRProblem(n_fields=3, pairs=[(0, 2)], random_state=0)
    >>> X, y, truth = problem.sample(100, random_state=1)
    >>> X.shape, truth.pairs
    ((100, 3), ((0, 2),))
    """

    def __init__(
        self,
        *,
        n_fields: int = 10,
        cardinality: Any = 20,
        zipf: float = 1.0,
        informative_fields: Any = (),
        informative_values: Any = None,
        pairs: Any = 5,
        triples: Any = 0,
        main_effect: float = 0.7,
        pair_effect: float = 1.0,
        triple_effect: float = 1.0,
        rank: Any = 3,
        duplicated_fields: Any = 0,
        n_numeric: int = 0,
        n_sequences: int = 0,
        missing_rate: float = 0.0,
        drift: float = 0.0,
        base_rate: float = 0.3,
        label_noise: float = 0.0,
        ids: str = "str",
        task: str = "binary",
        n_classes: int = 3,
        random_state: RandomState = None,
    ) -> None:
        _check_number("n_fields", n_fields, 1, None, Integral)
        _check_number("zipf", zipf, 0, None)
        for name, value in (
            ("main_effect", main_effect),
            ("pair_effect", pair_effect),
            ("triple_effect", triple_effect),
        ):
            _check_number(name, value, 0, None)
        for name, value in (("n_numeric", n_numeric), ("n_sequences", n_sequences)):
            _check_number(name, value, 0, None, Integral)
        for name, value in (
            ("missing_rate", missing_rate),
            ("drift", drift),
            ("label_noise", label_noise),
        ):
            _check_number(name, value, 0, 1)
        _check_number("n_classes", n_classes, 2, None, Integral)
        if not 0 < base_rate < 1:
            raise ValueError(f"base_rate must be in (0, 1), got {base_rate!r}.")
        for name, word, allowed in (
            ("ids", ids, ("str", "int", "category")),
            ("task", task, ("binary", "multiclass", "rating")),
        ):
            if word not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {word!r}.")
        rng = check_random_state(random_state)
        self.n_fields, self.missing_rate, self.drift = n_fields, missing_rate, drift
        self.base_rate, self.label_noise, self.ids, self.task, self.n_classes = (
            base_rate,
            label_noise,
            ids,
            task,
            n_classes,
        )
        self.n_numeric, self.n_sequences = n_numeric, n_sequences
        self.duplicated = _duplicates(duplicated_fields, n_fields, rng)
        base_fields = [f for f in range(n_fields) if f not in self.duplicated]
        self.cardinality = _per_field("cardinality", cardinality, n_fields)
        for new, old in self.duplicated.items():
            self.cardinality[new] = self.cardinality[old]
        self.shares = [
            k / k.sum() for k in (1.0 / np.arange(1, c + 1) ** zipf for c in self.cardinality)
        ]
        self._cumulative = [np.cumsum(p) for p in self.shares]
        self.names = tuple(self._value_names(c, rng) for c in self.cardinality)
        if isinstance(informative_fields, Integral):
            informative_fields = rng.choice(base_fields, informative_fields, replace=False)
        self.informative = tuple(sorted(int(f) for f in informative_fields))
        self.pairs = _tuples("pairs", pairs, 2, base_fields, n_fields, rng)
        self.triples = _tuples("triples", triples, 3, base_fields, n_fields, rng)
        unknown = [f for f in self.informative if not 0 <= f < n_fields]
        if unknown:
            raise ValueError(f"informative_fields must be fields below {n_fields}, got {unknown}.")
        self.ranks = dict(enumerate(_per_field("rank", rank, n_fields)))
        # Effects at the start and at the end of time; without drift only the first set counts.
        self.values = {
            f: self._informative_values(f, informative_values, rng) for f in self.informative
        }
        self._effects = [
            self._draw_effects(main_effect, pair_effect, triple_effect, rng) for _ in range(2)
        ]
        self.numeric_steps = tuple(
            (
                np.sort(rng.uniform(-1.5, 1.5, 3)),
                rng.permutation([-1.0, -0.3, 0.4, 1.1]) * main_effect,
            )
            for _ in range(n_numeric)
        )
        self._sequence_cardinality = 20
        self._sequence_effects = [rng.normal(0, 2 * main_effect, 20) for _ in range(n_sequences)]
        self.intercept = 0.0
        ranks, numeric, lengths, items = self._draw(REFERENCE_ROWS, rng)
        time = np.linspace(0, 1, REFERENCE_ROWS)
        latent = self._latent(ranks, numeric, lengths, items, time)
        self.latent_scale = float(latent.std())
        if task == "binary":
            self.intercept = brentq(lambda b: expit(latent + b).mean() - base_rate, -60, 60)
        self.cuts = np.quantile(
            latent + rng.logistic(size=len(latent)), np.arange(1, n_classes) / n_classes
        )

    def _value_names(self, cardinality, rng):
        numbers = rng.permutation(cardinality)  # names say nothing about frequency
        return (
            numbers
            if self.ids == "int"
            else np.array([f"v{k}" for k in numbers.tolist()], dtype=object)
        )

    def _informative_values(self, f, given, rng):
        n = self.cardinality[f]
        if given is None:
            return np.arange(n)
        if isinstance(given, dict):
            return np.asarray(given.get(f, np.arange(n)), dtype=np.int64)
        if not 0 < given <= 1:
            raise ValueError(
                f"informative_values must be a share in (0, 1] or a dict of field to values, got "
                f"{given!r}."
            )
        return np.sort(rng.choice(n, max(round(given * n), 1), replace=False))

    def _draw_effects(self, main_effect, pair_effect, triple_effect, rng):
        main, pairs, triples = {}, {}, {}
        for f in self.informative:
            table = np.zeros(self.cardinality[f])
            table[self.values[f]] = rng.normal(size=len(self.values[f]))
            main[f] = main_effect * table / (_weighted_std(table, self.shares[f]) or 1.0)
        for fields, tables, effect in [(t, pairs, pair_effect) for t in self.pairs] + [
            (t, triples, triple_effect) for t in self.triples
        ]:
            r = min(self.ranks[f] for f in fields)
            factors = [
                _centred(rng.normal(size=(self.cardinality[f], r)), self.shares[f]) for f in fields
            ]
            # Independent fields: the variance of the product sum is the sum of products of
            # covariances.
            covariance = np.prod(
                [
                    (u * p[:, None]).T @ u
                    for u, p in zip(factors, (self.shares[f] for f in fields), strict=True)
                ],
                axis=0,
            )
            factors[0] = factors[0] * (effect / (np.sqrt(covariance.sum()) or 1.0))
            tables[fields] = tuple(factors)
        return main, pairs, triples

    def _draw(self, n, rng):
        ranks = np.empty((self.n_fields, n), np.int64)
        for f in range(self.n_fields):
            if f not in self.duplicated:
                drawn = np.searchsorted(self._cumulative[f], rng.random_sample(n), side="right")
                ranks[f] = np.minimum(drawn, self.cardinality[f] - 1)
        for new, old in self.duplicated.items():
            ranks[new] = ranks[old]
        numeric = rng.normal(size=(self.n_numeric, n))
        lengths = [rng.poisson(3, n) for _ in range(self.n_sequences)]
        items = [rng.randint(self._sequence_cardinality, size=int(k.sum())) for k in lengths]
        return ranks, numeric, lengths, items

    def _latent(self, ranks, numeric, lengths, items, time):
        angle = self.drift * np.pi / 2 * time
        total = np.zeros(ranks.shape[1])
        weights = [np.cos(angle), np.sin(angle)] if self.drift else [np.ones(1)]
        for weight, (main, pairs, triples) in zip(weights, self._effects, strict=False):
            part = np.zeros(ranks.shape[1])
            for f, table in main.items():
                part += table[ranks[f]]
            for fields, factors in [*pairs.items(), *triples.items()]:
                part += np.prod(
                    [u[ranks[f]] for f, u in zip(fields, factors, strict=True)], axis=0
                ).sum(1)
            total += weight * part
        for x, (edges, levels) in zip(numeric, self.numeric_steps, strict=True):
            total += levels[np.searchsorted(edges, x)]
        for k, item, effect in zip(lengths, items, self._sequence_effects, strict=True):
            sums = np.bincount(np.repeat(np.arange(len(k)), k), effect[item], minlength=len(k))
            total += sums / np.maximum(k, 1)
        return total + self.intercept

    def sample(
        self, n_rows: int, random_state: RandomState = None, start: float = 0.0, stop: float = 1.0
    ) -> tuple[pd.DataFrame, Array, CTRTruth]:
        """Draw rows in time order.

        Parameters
        ----------
        n_rows : int
        random_state : int, RandomState or None
        start, stop : float in [0, 1]
            The stretch of time that the rows cover (matters with drift).

        Returns
        -------
        X : DataFrame (n_rows, n_fields + n_numeric + n_sequences)
            Columns "f0", "f1", ... ids; "x0", ... numbers; "s0", ... lists.
        y : ndarray (n_rows,)
            0/1, classes or ratings.
        truth : CTRTruth
        """
        _check_number("n_rows", n_rows, 1, None, Integral)
        rng = check_random_state(random_state)
        ranks, numeric, lengths, items = self._draw(n_rows, rng)
        latent = self._latent(ranks, numeric, lengths, items, np.linspace(start, stop, n_rows))
        y, probabilities, loss, auc = self._label(latent, rng)
        X = {}
        for f in range(self.n_fields):
            values = self.names[f][ranks[f]]
            if self.ids == "category":
                values = pd.Categorical.from_codes(ranks[f], pd.Index(self.names[f]))
            X[f"f{f}"] = pd.Series(values, dtype="str") if self.ids == "str" else pd.Series(values)
        for j in range(self.n_numeric):
            X[f"x{j}"] = pd.Series(numeric[j])
        for j in range(self.n_sequences):
            names = np.array([f"i{k}" for k in range(self._sequence_cardinality)], dtype=object)
            cells = np.split(names[items[j]], np.cumsum(lengths[j])[:-1])
            X[f"s{j}"] = pd.Series([cell.tolist() for cell in cells], dtype=object)
        X = pd.DataFrame(X)
        if self.missing_rate:
            for name in X.columns:
                X[name] = X[name].mask(rng.random_sample(n_rows) < self.missing_rate)
        return X, y, self._truth(probabilities, loss, auc)

    def _label(self, latent, rng):
        n = len(latent)
        noisy = rng.random_sample(n) < self.label_noise
        if self.task == "rating":
            # The noise has the size of the signal: half of the variance can be explained.
            y = 3 + latent + rng.normal(0, self.latent_scale or 1.0, n)
            y = np.where(noisy, rng.permutation(y), y)
            expected = (1 - self.label_noise) * (3 + latent) + self.label_noise * 3
            return y, expected, float(np.mean((y - expected) ** 2)), np.nan
        if self.task == "multiclass":
            below = expit(self.cuts[None, :] - latent[:, None])
            p = np.diff(np.column_stack([np.zeros(n), below, np.ones(n)]), axis=1)
            p = (1 - self.label_noise) * p + self.label_noise / self.n_classes
            y = (rng.random_sample(n)[:, None] > np.cumsum(p, axis=1)[:, :-1]).sum(1)
            return y, p, float(-np.log(p[np.arange(n), y]).mean()), np.nan
        p = (1 - self.label_noise) * expit(latent) + self.label_noise * self.base_rate
        y = (rng.random_sample(n) < p).astype(np.int64)
        auc = roc_auc_score(y, p) if 0 < y.mean() < 1 else np.nan
        return y, p, float(-(xlogy(y, p) + xlogy(1 - y, 1 - p)).mean()), float(auc)

    def _truth(self, probabilities, loss, auc):
        main, pairs, triples = self._effects[0]
        used = {*self.informative, *(f for t in (*self.pairs, *self.triples) for f in t)}
        used |= {new for new, old in self.duplicated.items() if old in used}
        return CTRTruth(
            informative_fields=self.informative,
            informative_values=self.values,
            pairs=self.pairs,
            triples=self.triples,
            noise_fields=tuple(f for f in range(self.n_fields) if f not in used),
            duplicated_fields=dict(self.duplicated),
            ranks=self.ranks,
            main_tables=main,
            pair_tables=pairs,
            triple_tables=triples,
            value_names=self.names,
            numeric_steps=self.numeric_steps,
            probabilities=probabilities,
            bayes_log_loss=loss,
            bayes_auc=auc,
        )


def make_ctr(
    n_rows: int = 10_000, *, random_state: RandomState = None, **problem: Any
) -> tuple[pd.DataFrame, Array, CTRTruth]:
    """Draw a table of clicks (classes, ratings) with planted effects.

    Parameters
    ----------
    n_rows : int, default=10_000
    n_fields : int, default=10
        Categorical columns.
    cardinality : int or list of int, default=20
        Values of each.
    zipf : float, default=1.0
        Exponent of the value frequencies, 1 / rank^zipf; 0 is uniform.
    informative_fields : int or sequence of int, default=()
        Fields with a main effect; an int draws so many.
    informative_values : float, dict of field to values, or None, default=None
        Which values of them carry it: a share, given ranks, or all.
    pairs, triples : int or list of tuples, default=5 and 0
        Fields that act only together; an int draws so many different tuples. Their tables are
        centred under the distribution of the values: no field has a main effect on the logit scale.
        (On the scale of probabilities the logistic curve leaves a trace of one.)
    main_effect, pair_effect, triple_effect : float, default=0.7, 1.0, 1.0
        Standard deviation of each effect on the logit scale.
    rank : int or list of int, default=3
        Needed embedding rank per field; a pair's table has the smaller rank of its two fields.
    duplicated_fields : int or dict of new field to old, default=0
        Relabelled copies of other fields.
    n_numeric : int, default=0
        Normal columns with a piecewise constant effect of four plateaus.
    n_sequences : int, default=0
        Columns of lists (3 items in the mean, of 20), with the mean of the items' effects.
    missing_rate : float in [0, 1], default=0
        Share of cells made missing after the labels were drawn.
    drift : float in [0, 1], default=0
        How far the effects turn towards others over the rows: 1 is all the way.
    base_rate : float in (0, 1), default=0.3
        Mean probability of a click.
    label_noise : float in [0, 1], default=0
        Share of labels replaced by coins of the base rate.
    ids : {"str", "int", "category"}, default="str"
        Type of the categorical columns.
    task : {"binary", "multiclass", "rating"}, default="binary"
        Clicks; ordered classes of equal size (proportional odds); or 3 + effects + noise of equal
        variance.
    n_classes : int, default=3
        Of "multiclass".
    random_state : int, RandomState or None, default=None

    Returns
    -------
    X : DataFrame (n_rows, n_columns)
    y : ndarray (n_rows,)
    truth : CTRTruth
        What was planted, the true probabilities, and the loss and AUC they reach.

    Raises
    ------
    ValueError
        For values out of range, naming the parameter.

    See Also
    --------
    CTRProblem : The same effects for any number of samples (chunks, train and test).

    Examples
    --------
    >>> X, y, truth = make_ctr(1000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> X.columns.tolist(), truth.noise_fields
    (['f0', 'f1', 'f2', 'f3'], (2, 3))
    """
    rng = check_random_state(random_state)
    return CTRProblem(random_state=rng, **problem).sample(n_rows, rng)
