"""SSEDS: one width per field, by what single columns are worth in a trained network."""

import numpy as np
import torch

from ..base import SearchMethod
from ..base._constraints import BUDGET, constraints_of
from ..engine import batches_of
from ..nn import (
    FieldEmbedding,
    MixedEmbedding,
    field_rows,
    limit_of,
)
from ..nn._budget import ELEMENT, vector_bytes
from ..utils._sklearn import StrOptions
from ._widths import check_widths


class GatedColumns(FieldEmbedding):
    """A plain table; ``gates``, a Tensor (F, d), are factors of the columns of each field while
    these are scored, None otherwise. A list that reads the table of another field has the factors
    of that.
    """

    def __init__(self, context):
        super().__init__(context)
        self.gates: torch.Tensor | None = None
        sharers = dict(context.sharers)
        owner = [sharers.get(f, f) for f in range(context.n_fields)]
        self.register_buffer("owner", torch.tensor(owner, dtype=torch.int64), persistent=False)

    def unpooled(self, inputs):
        vectors, lists = super().unpooled(inputs)
        if self.gates is None:
            return vectors, lists
        gates, first = self.gates[self.owner], len(self.owner) - len(lists)
        # Without columns and numbers there are lists alone.
        vectors = [torch.cat(vectors, 1) * gates[:first]] if vectors else []
        return vectors, [rows * own for rows, own in zip(lists, gates[first:], strict=True)]


def ablation_scores(problem, result, table, rows):
    """Rise of the mean loss of rows where a column of a field is switched off, (F, d).

    Parameters
    ----------
    problem : SearchProblem
    result : TrainingResult
        Of the network that holds ``table``.
    table : GatedColumns
    rows : int64 Tensor
    """
    shape = problem.context.n_fields, problem.context.embedding_dim
    whole, scores = problem.score(result, rows), np.zeros(shape)
    try:
        for place in np.ndindex(shape):
            table.gates = torch.ones(shape, device=rows.device)
            table.gates[place] = 0
            scores[place] = problem.score(result, rows) - whole
    finally:
        table.gates = None
    return scores


def gradient_scores(problem, result, table, rows):
    """Shares of the columns of each field in the absolute gradients of the mean loss of rows by
    their factors, (F, d); parameters as `ablation_scores`.
    """
    gates = torch.ones(
        problem.context.n_fields,
        problem.context.embedding_dim,
        device=rows.device,
        requires_grad=True,
    )
    network, total = result.net.module_.eval(), torch.zeros_like(gates)
    table.gates = gates
    try:
        for batch in batches_of(problem.data.select(rows), problem.plan.batch_size):
            losses = problem.loss(network(**batch.inputs), batch.y)
            loss = (losses if batch.weight is None else losses * batch.weight).sum()
            total += torch.autograd.grad(loss, gates)[0]
    finally:
        table.gates = None
    size = total.abs().double().cpu().numpy()
    return size / (size.sum() or 1.0)


def widths_within(scores, n_rows, limit, n_bytes=None):
    """Columns that each field keeps: those of highest score per number, as long as they fit.

    Parameters
    ----------
    scores : ndarray (F, d)
    n_rows : int ndarray (F,)
        Numbers of a column of each field.
    limit : int
        Bytes of all kept columns. A column that does not fit any more is passed over.
    n_bytes : int ndarray (d + 1, F) or None, default=None
        Bytes of a vector of each field by its width; None is that of float32.

    Returns
    -------
    list of int, length F
    """
    # A field without rows reads the table of another, and has the width of that.
    dim = scores.shape[1]
    if n_bytes is None:
        n_bytes = ELEMENT * np.arange(dim + 1)[:, None].repeat(len(scores), 1)
    of_columns = n_bytes[dim] / dim * n_rows  # in the mean
    per_byte = np.where(n_rows > 0, scores.T / np.maximum(of_columns, 1), -np.inf).T
    widths, left = np.zeros(len(scores), int), limit
    for place in np.argsort(-per_byte, axis=None, kind="stable"):
        field = place // scores.shape[1]
        now = widths[field]
        cost = int((n_bytes[now + 1, field] - n_bytes[now, field]) * n_rows[field])
        if cost and cost <= left:
            widths[field] += 1
            left -= cost
    return widths.tolist()


class SSEDS(SearchMethod):
    r"""Give each field the columns that a trained network misses most, within a budget.

    The network is trained once, with embeddings of full width, on one part of the training rows. On
    the others each column of each field is scored, by what happens to the loss L without it,

    .. math:: s_{ij} = L(\alpha_{ij} = 0) - L \qquad \text{or} \qquad
              s_{ij} = \frac{|\partial L / \partial \alpha_{ij}|}{\sum_{kl} |\partial L /
              \partial \alpha_{kl}|}

    where :math:`\alpha_{ij}`, in the trained network 1, is a factor of column j of the embeddings
    of field i. The columns of highest score per byte are kept as long as the budget lasts. How many
    columns a field keeps is its width; the network is trained anew with an embedding table of
    exactly that width per field, and a projection per width.

    Parameters
    ----------
    budget : float or int, default=0.25
        Bytes of the tables that are left: a float in (0, 1] is a share of those of full width, an
        int a number of bytes. It is used up, whether columns are of much use or not.
    score : {"ablation", "gradient"}, default="ablation"
        What a column is worth: the rise of the loss without it, for which every column takes a
        forward pass over the rows held out, or the absolute gradient of its factor, for which all
        together take one pass and back.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows by which columns are scored, and which the first training does
        not see.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights outside of the embedding with which the final training starts.

    Notes
    -----
    The gradient is the paper's. Where the network has converged, it is a gradient at a stationary
    point, and tells little: what is left of it belongs to the fields that are fitted worst, noise
    among them. The ablation is not cheaper than the paper's single pass, but cheap beside the
    training.

    Scores are divided by the bytes of a column, since it is bytes that are paid for; otherwise the
    field of most values would use up the budget for one column. Fields of numbers take part with
    the few vectors that they have, and are seldom cut.

    A field may lose all columns. It then has no part in interactions and keeps its first-order
    weights, where the network has such.

    The budget counts tables. The projections of narrow fields come on top: a matrix of w x d
    for each width w that occurs.

    If the user stops the search in its training, nothing is cut, whatever the budget.

    References
    ----------
    .. [1] Qu, L. et al. "Single-shot Embedding Dimension Search in Recommender System", SIGIR 2022.
       https://arxiv.org/abs/2204.03281

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.SSEDS(budget=0.5)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=4, max_epochs=2, random_state=0
    ... ).fit(X, y)
    >>> sum(model.embedding_sizes_.values())
    6
    """

    slot = "embedding"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "budget": BUDGET,
        "score": [StrOptions({"ablation", "gradient"})],
        **constraints_of("search_fraction", "retrain"),
    }

    def __init__(self, budget=0.25, score="ablation", search_fraction=0.2, retrain="scratch"):
        self.budget = budget
        self.score = score
        self.search_fraction = search_fraction
        self.retrain = retrain

    def build(self, context):
        return GatedColumns(context)

    def search(self, problem):
        context = problem.context
        every_width = np.arange(context.embedding_dim + 1)[:, None].repeat(context.n_fields, 1)
        n_bytes, n_rows = vector_bytes(context, every_width), field_rows(context)
        limit = limit_of(self.budget, context, numeric=True)
        smallest = (n_bytes[1] * n_rows)[n_rows > 0].min()
        if limit < smallest:
            raise ValueError(
                f"budget={self.budget!r} leaves {limit} bytes, fewer than the smallest column of a "
                f"field has ({smallest})."
            )
        table = self.build(context)
        for_weights, held_out = problem.split(self.search_fraction)
        result = problem.train(table, rows=for_weights)
        if problem.interrupted:
            return {"widths": [context.embedding_dim] * context.n_fields, "column_scores": None}
        scored = ablation_scores if self.score == "ablation" else gradient_scores
        scores = scored(problem, result, table, held_out)
        widths = widths_within(scores, n_rows, limit, n_bytes)
        for f, owner in context.sharers:
            widths[f] = widths[owner]
        return {
            "widths": widths,
            "column_scores": scores.tolist(),
        }

    def transfer(self, state, architecture, context):
        """Where nothing is cut, the whole table is the only one of the concrete part."""
        if set(architecture["widths"]) != {context.embedding_dim}:
            return state
        return {
            name.replace("embedding.", "embedding.tables.0.", 1): t for name, t in state.items()
        }

    def check(self, architecture, context):
        check_widths(architecture, context)

    def realise(self, architecture, context):
        return MixedEmbedding(context, architecture["widths"])
