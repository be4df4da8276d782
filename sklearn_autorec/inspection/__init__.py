"""Pictures of what a search found; matplotlib is needed only to draw them."""

from ._architecture import ArchitectureDisplay
from ._calibration import CalibrationByFieldDisplay
from ._candidates import CandidateHistoryDisplay
from ._embedding_sizes import EmbeddingSizeDisplay
from ._interactions import InteractionDisplay
from ._search_history import SearchHistoryDisplay
from ._selection_path import SelectionPathDisplay

__all__ = [
    "ArchitectureDisplay",
    "CalibrationByFieldDisplay",
    "CandidateHistoryDisplay",
    "EmbeddingSizeDisplay",
    "InteractionDisplay",
    "SearchHistoryDisplay",
    "SelectionPathDisplay",
]
