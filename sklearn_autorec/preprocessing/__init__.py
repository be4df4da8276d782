"""From raw tables to ids and numbers."""

from ._encoder import FieldEncoder
from ._table import EncodedTable

__all__ = ["EncodedTable", "FieldEncoder"]
