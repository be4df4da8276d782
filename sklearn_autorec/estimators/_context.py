"""What networks are built from: of new ones, and of fitted ones once more."""

from ..nn import BuildContext, FieldLayout
from ..preprocessing import N_BINS
from ..preprocessing._fitted import UNBOUNDED_RANGE
from ._initial_embeddings import given_vectors
from ._memory import check_memory
from ._settings import setting

__all__ = ["build_context", "fitted_context"]

LAZY_TABLE_FACTOR = 8  # tables this many times larger than a batch's ids get row-wise updates


def build_context(estimator, rows, plan):
    """What a new network for these rows is built from.

    Raises
    ------
    ValueError
        If its tables would not fit into the memory.
    """
    encoder = rows.encoder
    layout = FieldLayout.of_encoder(encoder)
    check_memory(estimator, layout, rows.target.n_outputs)
    per_batch = plan.batch_size * (layout.n_categorical + sum(layout.sequence_lengths))
    return BuildContext.of_encoder(
        encoder,
        embedding_dim=setting(estimator, "embedding_dim"),
        n_outputs=rows.target.n_outputs,
        counts=tuple(encoder.counts_),
        output_bias=tuple(float(b) for b in rows.output_bias()),
        sparse_gradients=layout.n_rows > LAZY_TABLE_FACTOR * per_batch,
        embedding_init=setting(estimator, "embedding_init"),
        members=estimator.members,
        numeric_embedding=estimator.numeric_embedding,
        n_numeric_bins=getattr(encoder, "n_bins", N_BINS),
        numeric_range=getattr(encoder, "numeric_range_", UNBOUNDED_RANGE),
        storage=estimator.storage,
        given_vectors=given_vectors(estimator, encoder),
        reference_loss=rows.target.loss(),
    )


def counts_by_column(encoder):
    """How often each value occurs in the training rows, dict of column name to ndarray (n_ids,); of
    columns and lists with tables.
    """
    layout = FieldLayout.of_encoder(encoder)
    first = layout.n_categorical + layout.n_numeric
    return {
        **dict(zip(layout.field_names, encoder.counts_, strict=False)),
        **dict(zip(layout.field_names[first:], encoder.sequence_counts_, strict=False)),
    }


def fitted_context(
    target, encoder, sparse, embedding_dim, members, numeric_embedding, storage=None
):
    """What the network of a fitted estimator is built from once more.

    Parameters
    ----------
    target : ClassTarget or RatingTarget
    encoder : FieldEncoder, or a frozen one
    sparse : bool
        Whether tables have row-wise gradients.
    embedding_dim, members : int
    numeric_embedding : str
    storage : str, dict or None, default=None

    Returns
    -------
    BuildContext
    """
    return BuildContext.of_encoder(
        encoder,
        embedding_dim=embedding_dim,
        n_outputs=target.n_outputs,
        counts=tuple(encoder.counts_),
        sparse_gradients=sparse,
        members=members,
        numeric_embedding=numeric_embedding,
        n_numeric_bins=getattr(encoder, "n_bins", N_BINS),
        numeric_range=getattr(encoder, "numeric_range_", UNBOUNDED_RANGE),
        storage=storage,
        reference_loss=target.loss(),
    )
