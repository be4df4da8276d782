"""AutoEmb: embeddings of several sizes, mixed by how often a value has come."""

import dataclasses
from numbers import Integral, Real

import numpy as np
import torch

from ..base import SearchMethod
from ..base._constraints import constraints_of
from ..nn import FieldEmbedding, ProjectedSizes, sizes_from_text, sizes_to_text
from ..utils._sklearn import Interval, StrOptions
from ._size_mixture import REPORTED_COUNTS, SizeMixture
from ._value_sizes import check_sizes_to_choose, check_value_sizes
from ._widths import check_candidates


class MixedTable(FieldEmbedding):
    """The mixtures of all values, worked out: a plain table that tells the sizes of which they are
    made for the most part.

    Parameters
    ----------
    context : BuildContext
    sizes : ndarray of int (V,)
    """

    def __init__(self, context, sizes):
        super().__init__(context)
        self.told = sizes.astype(np.uint16)

    def sizes(self):
        """Size of the largest weight by field: int ndarray (n_rows,) of a table, d of a number."""
        return self.by_field(self.told.astype(np.int64), self.weight.shape[1])


class AutoEmb(SearchMethod):
    r"""Mix embeddings of several sizes by weights that depend on how often a value has come.

    Value v of field f has a piece :math:`e_n` of every candidate size, which a matrix, batch norm
    and tanh bring to one width and one scale, so that a small weight cannot be made up for by a
    larger piece:

    .. math:: z_n = \tanh(BN(e_n P_{fn})), \quad w = \mathrm{softmax}(g_f(x_v)), \quad
              \tilde e_v = s_f \sum_n w_n z_n

    The controller :math:`g_f`, a perceptron of one hidden layer, sees the count of the value,
    :math:`x_v = (\log_2(1 + c_v) - 5) / 5`. In each step the controllers move first, on the batch
    before, then the weights on the present one (bi-level, first order).

    It works in ``fit`` and from the first chunk of ``partial_fit`` on, where counts grow with the
    stream and with them the sizes, which are there after every chunk (``embedding_sizes_``: those
    of the largest weight).

    Parameters
    ----------
    sizes : tuple of int or "auto", default="auto"
        Candidates, at most ``embedding_dim``. "auto" is 1, 2, 4, ... and ``embedding_dim``.
    rows : {"previous", "next", "held_out", "same"}, default="previous"
        On which rows the controllers move: on the batch before that of the weights, on that of the
        weights before these have seen it, on a part of the training rows of their own, or on that
        of the weights after their step. See `sklearn_autorec.engine.ArchSchedule`.
    arch_lr : float, default=0.02
        Adam's learning rate of the controllers.
    price : float, default=0.2
        Loss, summed over the rows of a value, that a column of it has to save: the price of
        :math:`\sum_v \sum_n w_n d_n` is added to the total loss. 0 is the paper.
    harden : bool, default=False
        Let the weights become nearly a choice: from the middle of the search on the softmax is
        taken at a falling temperature, and in the end every value keeps the piece of its largest
        weight alone, of which only so many numbers are stored.
    use_loss : bool, default=False
        Tell the controllers the last loss of the value as well, less the usual one.
    hidden : int, default=16
        Hidden units of a controller.
    floor : float in [0, 1), default=0.1
        Share of the mixture that all sizes have alike, whatever their weights. A size that is given
        up is trained by it, and can come back when counts have grown. With ``harden`` it falls to
        zero with the temperature.
    warmup : float in [0, 1), default=0.8
        Share of the steps (in a stream: of the first chunk) before the controllers move. What
        wide pieces are worth shows only once they have learned something.
    search_fraction : float in (0, 1), default=0.2
        Share of the rows that only the controllers see, with ``rows="held_out"``.
    retrain : {"none", "keep"}, default="none"
        Whether what is found serves as it is, as in the paper, or is trained further.

    Notes
    -----
    Without ``harden`` nothing is saved: the mixture of each value is worked out once, and a plain
    table of full width serves.

    On a batch that the weights have just been trained on a wide piece of a rare value looks better
    than it is. Without a price (``price=0``, the paper) rare values therefore do not become
    narrow on ``rows="previous"``, and neither does a field of noise; with it they do.

    Departures from the public code: batch norm has statistics of each candidate and field, not of
    all candidates together, and no scale and shift; a field has one learned factor behind the
    mixture; controllers see the logarithm of a count instead of a learned vector for each count,
    and not their own last weights; mixtures start even.

    Values of lists are counted as those of categorical fields, in a fit during its first epoch.
    Numbers are left at full width.

    References
    ----------
    .. [1] Zhao, X. et al. "AutoEmb: Automated Embedding Dimensionality Search in Streaming
       Recommendations", ICDM 2021. https://arxiv.org/abs/2002.11252

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.AutoEmb((1, 4))
    >>> model = CTRClassifier(network="fm", search=search, embedding_dim=4, random_state=0)
    >>> for chunk in (slice(0, 500), slice(500, 1000)):
    ...     model = model.partial_fit(X[chunk], y[chunk], classes=[0, 1])
    >>> sorted(model.embedding_sizes_)
    ['f0', 'f1', 'f2']
    >>> "prequential_loss" in model.history_[-1]
    True
    """

    slot = "embedding"
    distributes = True
    streams = True
    _parameter_constraints = {
        "sizes": [tuple, list, StrOptions({"auto"})],
        "rows": [StrOptions({"previous", "next", "held_out", "same"})],
        **constraints_of("arch_lr", "warmup", "search_fraction"),
        "price": [Interval(Real, 0, None, closed="left")],
        "harden": ["boolean"],
        "use_loss": ["boolean"],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "floor": [Interval(Real, 0, 1, closed="left")],
        "retrain": [StrOptions({"none", "keep"})],
    }

    def __init__(
        self,
        sizes="auto",
        rows="previous",
        arch_lr=0.02,
        price=0.2,
        harden=False,
        use_loss=False,
        hidden=16,
        floor=0.1,
        warmup=0.8,
        search_fraction=0.2,
        retrain="none",
    ):
        self.sizes = sizes
        self.rows = rows
        self.arch_lr = arch_lr
        self.price = price
        self.harden = harden
        self.use_loss = use_loss
        self.hidden = hidden
        self.floor = floor
        self.warmup = warmup
        self.search_fraction = search_fraction
        self.retrain = retrain

    def build(self, context):
        sizes = check_candidates(self.sizes, context.embedding_dim)
        return SizeMixture(context, check_sizes_to_choose("AutoEmb", sizes), self)

    def derive(self, module, context):
        best = module.widths[module.weights_of_values().argmax(1)]
        return {
            "sizes": sizes_to_text(best.cpu().numpy()),
            "hard": bool(self.harden),
            "weights": {"counts": list(REPORTED_COUNTS), "by_field": module.weights_by_count()},
        }

    def transfer(self, state, architecture, context):
        """Every value gets the vector that it has, or the numbers of its size and the maps of all
        sizes with batch norm in them.
        """
        own = {
            k.removeprefix("embedding."): t for k, t in state.items() if k.startswith("embedding.")
        }
        state = {k: t for k, t in state.items() if not k.startswith("embedding.")}
        quiet = dataclasses.replace(context, generator=torch.Generator())
        module = self.build(quiet)
        module.load_state_dict(own)
        module.to(own["pieces"].device).eval()
        numbers = {k: t for k, t in own.items() if k.startswith("numeric_")}
        if architecture["hard"]:
            found = module.hard_state(sizes_from_text(architecture["sizes"]))
        else:
            found = {"weight": module.vectors()}
        return state | {f"embedding.{k}": t for k, t in (numbers | found).items()}

    def check(self, architecture, context):
        check_value_sizes(architecture, context)
        if type(architecture.get("hard")) is not bool:
            raise ValueError(f"hard must be True or False, got {architecture.get('hard')!r:.200}.")

    def realise(self, architecture, context):
        sizes = sizes_from_text(architecture["sizes"])
        return (ProjectedSizes if architecture["hard"] else MixedTable)(context, sizes)
