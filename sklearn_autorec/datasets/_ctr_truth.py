"""What was planted in click data."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class CTRTruth:
    """What was planted; fields are positions of categorical columns.

    Parameters
    ----------
    informative_fields : tuple of int
        Fields with a main effect.
    informative_values : dict of int to ndarray of int
        Values (ranks by frequency, 0 the most frequent) that carry the main effect of those fields.
    pairs, triples : tuple of tuple of int
        Fields that act only together: on the logit scale no single one of them has an effect of its
        own.
    noise_fields : tuple of int
        Fields that nothing depends on.
    duplicated_fields : dict of int to int
        New field to the field of which it is a relabelled copy.
    ranks : dict of int to int
        Rank of the pair tables of a field: the embedding dimension it needs.
    main_tables, pair_tables, triple_tables : dict
        Effects on the latent scale by value rank: arrays (cardinality,), factor pairs
        (cardinality_i, r), (cardinality_j, r), factor triples.
    value_names : tuple of ndarray
        Name of each value rank, per field.
    numeric_steps : tuple of (ndarray, ndarray)
        Edges and levels of the piecewise constant effect of each numeric column.
    probabilities : ndarray
        True probability of a click (n_rows,), of each class (n_rows, n_classes), or the expected
        rating (n_rows,).
    bayes_log_loss : float
        Log loss of the true probabilities on the drawn labels; mean squared error for ratings.
    bayes_auc : float
        ROC AUC of the true probabilities on the drawn labels; NaN unless binary.
    """

    informative_fields: tuple
    informative_values: dict
    pairs: tuple
    triples: tuple
    noise_fields: tuple
    duplicated_fields: dict
    ranks: dict
    main_tables: dict = field(repr=False)
    pair_tables: dict = field(repr=False)
    triple_tables: dict = field(repr=False)
    value_names: tuple = field(repr=False)
    numeric_steps: tuple = field(repr=False)
    probabilities: np.ndarray | None = field(repr=False, default=None)
    bayes_log_loss: float = np.nan
    bayes_auc: float = np.nan
