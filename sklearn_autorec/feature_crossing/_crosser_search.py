"""What searches for crosses share whose result is a fitted `FieldCrosser`."""

import warnings
from typing import Any

from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..utils._defaults import ComponentEstimator
from ..utils._sklearn import CallbackSupportMixin
from ..utils._typing import Array, Column, Table
from ._crosser import FieldCrosser
from ._reading import MAKERS


class CrosserSearch(CallbackSupportMixin, TransformerMixin, ComponentEstimator):
    """Base of searches that leave a `FieldCrosser` as ``crosser_``.

    Attributes
    ----------
    field_names_ : list of str
        All columns, by name.
    crosser_ : FieldCrosser
        Fitted on all rows; its ``crosses_`` are those above.
    n_features_in_, feature_names_in_
        As of `FieldCrosser`.
    """

    _makers = MAKERS

    def _new_crosser(self, crosses, **options):
        """A `FieldCrosser` of what was found, with the parameters that it has in common with the
        search.
        """
        common = ("min_count", "max_ids", "output", "append", "encoder")
        return FieldCrosser(crosses, **{name: getattr(self, name) for name in common}, **options)

    def transform(self, X: Table) -> Any:
        """Rows with their crosses; see `FieldCrosser.transform`."""
        check_is_fitted(self, "crosser_")
        return self.crosser_.transform(X)

    def get_feature_names_out(self, input_features: Column = None) -> Array:
        """Names of the columns of ``transform``; see `FieldCrosser.get_feature_names_out`."""
        check_is_fitted(self, "crosser_")
        return self.crosser_.get_feature_names_out(input_features)


def warn_of_interruption(search, found):
    """Tell that the user has stopped a search, and what of it stays."""
    warnings.warn(
        f"{type(search).__name__}: the search was interrupted; the {found} found so far are kept.",
        UserWarning,
        stacklevel=6,
    )
