"""What the methods that give each value a size share."""

from ..nn import sizes_from_text


def check_value_sizes(architecture, context):
    """Refuse an architecture whose sizes do not fit the tables.

    Raises
    ------
    ValueError
    """
    sizes, d = sizes_from_text(architecture.get("sizes")), context.embedding_dim
    if len(sizes) != context.n_rows or not 1 <= sizes.min(initial=1) <= sizes.max(initial=1) <= d:
        raise ValueError(
            f"sizes must hold {context.n_rows} whole numbers between 1 and embedding_dim={d}, got "
            f"{len(sizes)} between {sizes.min(initial=1)} and {sizes.max(initial=1)}."
        )


def check_sizes_to_choose(name, candidates):
    """Refuse candidates, rising, of which one is 0.

    Raises
    ------
    ValueError
        Naming the method.
    """
    if not candidates[0]:
        raise ValueError(f"sizes of {name} must be at least 1, got {candidates!r}.")
    return candidates
