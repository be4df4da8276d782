"""Whether integers are ids, numbers or both, by what they look like."""

BOTH = "both"


def choose_kind(column, kind):
    """The kind of a column, given the one by its dtype."""
    return kind
