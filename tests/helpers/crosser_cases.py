"""What the tests of FieldCrosser share."""

import pandas as pd


def crossed(table, columns):
    """Combinations of a row, as tuples; None where all is missing."""
    rows = [
        tuple(None if pd.isna(v) else v for v in row)
        for row in table[columns].itertuples(index=False)
    ]
    return [None if all(v is None for v in row) else row for row in rows]
