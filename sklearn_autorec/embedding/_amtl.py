"""AMTL: the length of each embedding, made of its frequency by twin networks."""

import dataclasses
from numbers import Integral, Real

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from ..base import SearchMethod
from ..base._constraints import BUDGET, RETRAIN_OR_NOT, constraints_of
from ..engine import ArchSchedule, MovedByAdam
from ..engine._building import build_module
from ..engine._initial_weights import initial_weights
from ..nn import (
    MLP,
    FieldEmbedding,
    SizedRows,
    annealed,
    check_temperatures,
    one_hot_of_largest,
    sizes_from_text,
    sizes_to_text,
    straight_through,
    tables_by_size,
)
from ..nn._read_rows import read_rows
from ..nn._sized_rows import sized_bytes
from ..utils._parameters import stores_parameters
from ..utils._sklearn import HasMethods, Interval, StrOptions
from ._budgets import bytes_for_tables, warn_if_nothing_is_kept
from ._frequency import value_counts
from ._sizes import check_sizes

PRICES = 40  # halvings until a price is found
SLOPE = 4.0  # of the first logits, from the shortest to the longest, which is the likeliest then


@dataclasses.dataclass(frozen=True, eq=False)
class Frequencies:
    """What the twins know of values: those of one field that occur equally often are one group.

    Parameters
    ----------
    attributes : float32 Tensor (U, 2)
        Logarithm of one plus the count, and rank within the field, of each group; both have mean 0
        and standard deviation 1 over all values.
    n_values : float32 Tensor (U,)
        Values of each group.
    group : int64 Tensor (V,)
        Of each row of the tables.
    """

    attributes: torch.Tensor
    n_values: torch.Tensor
    group: torch.Tensor

    @classmethod
    def of(cls, counts, sizes):
        """Of counts (V,) of the rows of tables with so many rows."""
        starts = np.cumsum([0, *sizes])
        own = [counts[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
        ranks = [(rankdata(c) - 0.5) / max(len(c), 1) for c in own]
        known = np.log1p(counts), np.concatenate([np.zeros(0), *ranks])
        attributes = np.stack([_standardised(a) for a in known], 1).astype(np.float32)
        field = np.repeat(np.arange(len(sizes)), sizes)
        _, first, group, n_values = np.unique(
            np.stack([field, counts], 1),
            axis=0,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        return cls(
            torch.from_numpy(attributes[first]),
            torch.from_numpy(n_values.astype(np.float32)),
            torch.from_numpy(group.reshape(-1)),
        )


def _standardised(x):
    """Mean 0 and standard deviation 1; zeros where all are the same."""
    return (x - x.mean()) / (x.std() or 1.0) if len(x) else x


class Twins(nn.Module):
    """Logits of the lengths 1 .. d by frequency; attributes (U, 2) -> (U, d).

    Two networks are weighed by the frequency: a h(s) + (1 - a) l(s), where a is the sigmoid of the
    first attribute. Both begin with the full length as the likeliest."""

    def __init__(self, d, hidden_units, twins, generator):
        super().__init__()
        self.networks = nn.ModuleList(
            MLP(2, hidden_units, generator, batch_norm=False, n_outputs=d) for _ in range(1 + twins)
        )
        for network in self.networks:
            with torch.no_grad():
                network.layers[-1].bias.copy_(SLOPE * torch.arange(1, d + 1) / d)

    def forward(self, attributes):
        logits = [network(attributes) for network in self.networks]
        if len(logits) == 1:
            return logits[0]
        share = torch.sigmoid(attributes[:, :1])
        return share * logits[0] + (1 - share) * logits[1]


class FrequencySizedEmbedding(MovedByAdam, FieldEmbedding):
    """A table of which every value is read up to a length that follows its frequency; inputs -> (B,
    F, d).

    The length is the likeliest one, and the gradient that of the softmax (straight-through).

    Parameters
    ----------
    context : BuildContext
    frequencies : Frequencies
    method : AMTL
    """

    def __init__(self, context, frequencies, method):
        super().__init__(context)
        d = context.embedding_dim
        self.twins = Twins(d, method.hidden_units, method.twins, context.generator)
        for name in ("attributes", "n_values", "group"):
            self.register_buffer(name, getattr(frequencies, name), persistent=False)
        self.arch_schedule = ArchSchedule(
            method.level, fraction=method.search_fraction, warmup=method.warmup
        )
        self.arch_lr, self.size_penalty = method.arch_lr, method.size_penalty
        self.temperatures = check_temperatures(method.temperature)
        self.temperature = self.temperatures[0]
        self._masks = None

    def arch_parameters(self):
        return [*self.twins.parameters()]

    def set_progress(self, t):
        self.temperature = annealed(*self.temperatures, t)

    def odds(self):
        """Softmax of the lengths of each group at the present temperature, (U, d)."""
        return torch.softmax(self.twins(self.attributes) / self.temperature, 1)

    def masks(self):
        """What is read of each group, (U, d): ones up to the length, then zeros."""
        soft = self.odds()
        chosen = straight_through(one_hot_of_largest(soft), soft)
        return chosen.flip(1).cumsum(1).flip(1)

    def penalty(self):
        """Weight times the mean expected length of the values, as a share of d."""
        if not self.size_penalty or not len(self.attributes):
            return 0.0
        d = self.weight.shape[1]
        expected = self.odds() @ torch.arange(1.0, d + 1, device=self.weight.device)
        return self.size_penalty * (expected @ self.n_values) / (self.n_values.sum() * d)

    def unpooled(self, inputs):
        self._masks = self.masks()
        vectors = super().unpooled(inputs)
        self._masks = None
        return vectors

    def lookup(self, ids, rows, fields):
        return super().lookup(ids, rows, fields) * read_rows(self._masks, self.group[rows.long()])

    @torch.no_grad()
    def lengths(self, price=0.0):
        """Length of each value, int64 ndarray (V,), where each number costs a price of its
        logit.
        """
        logits = self.twins(self.attributes)
        logits = logits - price * torch.arange(logits.shape[1], device=logits.device)
        return (logits.argmax(1) + 1)[self.group].cpu().numpy()

    @torch.no_grad()
    def highest_price(self):
        """A price at which all lengths are 1."""
        logits = self.twins(self.attributes)
        gain = (logits[:, 1:] - logits[:, :1]) / torch.arange(1, logits.shape[1]).to(logits)
        return 1.001 * max(float(gain.max()), 0.0) + 1e-6 if gain.numel() else 0.0

    def summary(self):
        lengths = self.lengths()
        return {
            "temperature": self.temperature,
            "mean_size": float(lengths.mean()) if len(lengths) else 0.0,
        }


def lengths_within(module, n_bytes, context):
    """The lengths at the lowest price at which the tables fit in so many bytes; where a length of 1
    is too long, `most_frequent` ones have it, and the others nothing.
    """
    lengths, low, high = module.lengths(), 0.0, module.highest_price()
    if sized_bytes(lengths, context) <= n_bytes:
        return lengths
    lengths = module.lengths(high)
    if sized_bytes(lengths, context) > n_bytes:
        by_count = module.attributes[:, 0][module.group].cpu().numpy()
        return most_frequent(by_count, n_bytes, context)
    for _ in range(PRICES):
        price = (low + high) / 2
        found = module.lengths(price)
        if sized_bytes(found, context) <= n_bytes:
            high, lengths = price, found
        else:
            low = price
    return lengths


def most_frequent(by_count, n_bytes, context):
    """A length of 1 for as many values as fit in so many bytes, the most frequent ones of all
    fields, and 0 for the others, int64 ndarray (V,).
    """
    order = np.argsort(-by_count, kind="stable")

    def first(n):
        lengths = np.zeros(len(order), np.int64)
        lengths[order[:n]] = 1
        return lengths

    low, high = 0, len(order)
    while high - low > 1:
        n = (low + high) // 2
        low, high = (n, high) if sized_bytes(first(n), context) <= n_bytes else (low, n)
    return first(low)


class AMTL(SearchMethod):
    r"""The length of the embedding of each value, as a function of how often it occurs (AMTL).

    Two small networks read the frequency :math:`s_v` of value v (its logarithm and its rank within
    the field) and give the logits of the lengths 1 .. d:

    .. math:: o_v = a_v\, h(s_v) + (1 - a_v)\, l(s_v), \quad p_v = \mathrm{softmax}(o_v / T)

    :math:`a_v`, the sigmoid of the standardised logarithm of the count, sends frequent values to h
    and rare ones to l. The embedding is read up to the likeliest length; the gradient is that of
    :math:`p_v` (straight-through), so that the networks, the tables and the rest are trained
    together. In the end the rows are cut, and the network is trained anew with these lengths.

    Parameters
    ----------
    size_penalty : float, default=0.05
        Loss of a mean expected length of ``embedding_dim``, over all values. 0 is the paper, see
        Notes.
    level : {"one_level", "first_order"}, default="one_level"
        How the twin networks are trained: on the same rows as everything else, which is the paper,
        or on rows of their own, by which a value is as long as other rows bear out. With these 0.01
        is enough of a penalty.
    arch_lr : float, default=0.03
        Adam's learning rate of the twin networks.
    warmup : float in [0, 1), default=0.2
        Share of the search in which all values have the full length: a penalty would cut off
        numbers before they have learned anything.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows for the twin networks ("first_order" only). With
        ``retrain="none"`` nothing else is ever trained on them.
    hidden_units : tuple of int, default=(16,)
        Of each twin network.
    temperature : tuple of (float, float), default=(1.0, 0.1)
        First and last T; falls linearly with the share of steps done.
    twins : bool, default=True
        Whether there are two networks; with one of them frequent values own nearly all of the
        gradient.
    start : CTRClassifier or RatingRegressor, default=None
        A fitted model with the same network and sizes, without a search, with whose weights the
        search begins: lengths for a table that is trained already. Columns are matched by name and
        ids by value. Only ``fit`` needs it: copies and pickles of fitted estimators, architectures
        and model files have nothing of it.
    budget : float or int or None, default=None
        Bytes of the cut tables, their index included, that are never exceeded: a float in (0, 1] is
        a share of the whole tables, an int a number of bytes. If the likeliest lengths take more,
        every number of a vector costs its logit a price, the lowest at which they fit. If lengths
        of 1 for all are too much, the most frequent values of all fields have it, and the others
        no embedding. The vectors of numeric fields are left whole and are counted. None cuts no
        more than the search did.
    retrain : {"rewind", "scratch", "keep", "none"}, default="rewind"
        Weights with which a final training at the lengths that were found starts: those with which
        the search began (with ``start``, those of the fitted model), new ones, or those of the
        search. "none" is the paper: what was searched serves as it is, see Notes.

    Notes
    -----
    Values of one field that occur equally often have the same length. Counts are those of the rows
    that are trained on. A value that none of them holds has the length of a count of zero; the
    shortest is 1 where no budget asks for less. Fields of numbers are left whole.

    Without a penalty nothing but the fit shortens an embedding, and a longer one fits better the
    rows that it is trained on: on planted tables ``size_penalty=0`` left all values at full length.

    No rows stop the search early, and nothing in it has been trained at the lengths to which a
    budget cuts. So what was searched does not serve by default: at a fifth of the bytes of 20,000
    rows of Frappe and of MovieLens 1M (FM, one seed) "none" was .02 of AUC behind "rewind", and
    "keep", which starts where the search ended, .004 and .006.

    The paper's temperature and layers were not at hand; the defaults are ours, and so is the
    budget. It does not move the search: prices that held one, raised while the networks learned,
    gave long embeddings to rare values as often as to frequent ones.

    References
    ----------
    .. [1] Yan, B. et al. "Learning Effective and Efficient Embedding via an Adaptively-Masked
       Twins-based Layer", CIKM 2021. https://arxiv.org/abs/2108.11513

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.AMTL()
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=4, max_epochs=3, random_state=0
    ... ).fit(X, y)
    >>> len(model.embedding_sizes_["f0"]) == model.encoder_.n_ids_[0]
    True
    """

    slot = "embedding"
    distributes = True
    fit_only = ("start",)
    _parameter_constraints = {
        "size_penalty": [Interval(Real, 0, None, closed="left")],
        "level": [StrOptions({"one_level", "first_order"})],
        **constraints_of("arch_lr", "warmup", "search_fraction", "temperature"),
        "hidden_units": [tuple, list],
        "twins": ["boolean"],
        "budget": [*BUDGET, None],
        "start": [None, HasMethods(["fit", "predict"])],
        "retrain": RETRAIN_OR_NOT,
    }

    @stores_parameters
    def __init__(
        self,
        size_penalty=0.05,
        level="one_level",
        arch_lr=0.03,
        warmup=0.2,
        search_fraction=0.2,
        hidden_units=(16,),
        temperature=(1.0, 0.1),
        twins=True,
        start=None,
        retrain="rewind",
        budget=None,
    ):
        """Store the parameters."""

    def search(self, problem):
        context, hidden = problem.context, self.hidden_units
        if not all(isinstance(n, Integral) and n >= 1 for n in hidden):
            raise ValueError(f"hidden_units must hold whole numbers of at least 1, got {hidden!r}.")
        counts = value_counts(problem.data, context, problem.stream)
        frequencies = Frequencies.of(counts, context.table_sizes)
        module = FrequencySizedEmbedding(context, frequencies, self)
        limit = None
        if self.budget is not None:
            one = np.arange(context.n_rows) == 0
            limit = bytes_for_tables(self.budget, sized_bytes(one, context), context)
        problem.train(module, start=self._start(problem))
        lengths = module.lengths()
        if limit is not None:
            lengths = lengths_within(module, limit, context)
            warn_if_nothing_is_kept(self, lengths)
        return {"sizes": sizes_to_text(lengths)}

    def _start(self, problem):
        """Weights of the fitted model for the problem's network, None where there is none."""
        if self.start is None:
            return None
        plain = build_module(problem.network, problem.network_context, problem.parts())
        return initial_weights(self.start, problem.encoder, problem.network_context, plain).state

    def transfer(self, state, architecture, context):
        """What is read of each row, by the table of its length."""
        own = ("embedding.weight", "embedding.twins.")
        tables = tables_by_size(state["embedding.weight"], sizes_from_text(architecture["sizes"]))
        return {name: t for name, t in state.items() if not name.startswith(own)} | {
            f"embedding.{name}": t for name, t in tables.items()
        }

    def check(self, architecture, context):
        check_sizes(architecture, context)

    def realise(self, architecture, context):
        return SizedRows(context, sizes_from_text(architecture["sizes"]))
