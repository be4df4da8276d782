"""What a policy asks for, and what it hears."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Trial:
    """What a policy asks for: one row of ``cv_results_``.

    Parameters
    ----------
    params : dict
        Without the resource.
    resource : int or None
        Total units of the resource that the model has had when it is scored; None for a plain fit.
    parent : int or None
        Row of ``cv_results_`` whose models this one continues (warm searches); it must be of the
        policy's last batch.
    edits : dict
        Parameters that change when it goes on.
    columns : dict
        More columns of ``cv_results_``, the same names in all trials of a search.
    """

    params: dict[str, Any]
    resource: int | None = None
    parent: int | None = None
    edits: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a policy hears of a trial: its row, and its mean score (minus infinity if it failed)."""

    trial: Trial
    row: int
    score: float
