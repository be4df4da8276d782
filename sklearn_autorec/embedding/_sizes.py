"""What the methods that give each value a size share."""

import numpy as np

from ..nn import sizes_from_text


def check_sizes(architecture, context):
    """Refuse an architecture whose sizes do not fit the values.

    Raises
    ------
    ValueError
    """
    try:
        sizes = sizes_from_text(architecture.get("sizes"))
    except ValueError as error:
        raise ValueError(f"sizes must be a text of whole numbers, one a value: {error}") from error
    d, largest = context.embedding_dim, int(np.max(sizes, initial=0))
    if len(sizes) != context.n_rows or largest > d:
        raise ValueError(
            f"sizes must hold {context.n_rows} whole numbers between 0 and embedding_dim={d}, got "
            f"{len(sizes)} up to {largest}."
        )
