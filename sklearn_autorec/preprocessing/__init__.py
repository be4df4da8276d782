"""From raw tables to ids and numbers."""

from ._encoder import FieldEncoder
from ._fitted import N_BINS
from ._table import EncodedTable

__all__ = ["N_BINS", "EncodedTable", "FieldEncoder"]
