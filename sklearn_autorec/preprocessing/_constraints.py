"""What the parameters of `FieldEncoder` may be."""

from numbers import Integral, Real

from ..utils._sklearn import Interval, StrOptions

CONSTRAINTS: dict = {
    "categorical_features": [StrOptions({"auto"}), dict, "array-like", None],
    "sequence_features": [StrOptions({"auto"}), "array-like", dict, None],
    "vector_features": [StrOptions({"auto"}), "array-like", None],
    "time_features": [StrOptions({"auto"}), "array-like", None],
    "min_frequency": [
        Interval(Integral, 1, None, closed="left"),
        Interval(Real, 0, 1, closed="neither"),
    ],
    "max_categories": [None, Interval(Integral, 1, None, closed="left")],
    "numeric": [StrOptions({"rank", "quantile", "log_square", "standard"}), None],
    "n_bins": [Interval(Integral, 1, 2**12, closed="both")],
    "numeric_bins": [StrOptions({"quantile", "target"})],
    "n_quantiles": [Interval(Integral, 2, None, closed="left")],
    "max_length": [Interval(Integral, 1, None, closed="left")],
    "hash_threshold": [None, Interval(Integral, 1, None, closed="left")],
    "n_hash_buckets": [Interval(Integral, 1, None, closed="left")],
    "shared_vocabularies": [dict, None],
    "unknown_warning": [None, Interval(Real, 0, 1, closed="both")],
}
