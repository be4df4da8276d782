"""Which kinds of features `AEFE` builds, and their names."""

from sklearn.base import is_classifier, is_regressor

from .._crosser import SEPARATOR

PARADIGMS = ("count", "nunique", "ratio", "target", "concat")


def check_paradigms(search):
    """Refuse paradigms that are unknown or twice there, and an estimator of neither kind."""
    unknown = [p for p in search.paradigms if p not in PARADIGMS]
    if unknown or not len(search.paradigms) or len(set(search.paradigms)) < len(search.paradigms):
        raise ValueError(
            f"paradigms must be some of {list(PARADIGMS)}, each once, got {search.paradigms!r}."
        )
    if search.estimator is not None and not (
        is_classifier(search.estimator) or is_regressor(search.estimator)
    ):
        raise ValueError(
            f"estimator must be a classifier or a regressor, got {search.estimator!r:.200}."
        )


def names_of(features, labels, classes, paradigms):
    """Names of the new columns, statistics before ids, and the columns of each cross.

    Parameters
    ----------
    features : list of Feature
    labels : list of str
    classes : ndarray or None
    paradigms : sequence of str
    """
    names, ids = [], []
    for feature in features:
        if feature.kind != "mean" or "target" in paradigms:
            names += feature.names(labels, classes)
        if feature.kind == "mean" and "concat" in paradigms:
            ids.append(SEPARATOR.join(labels[i] for i in feature.columns))
    crosses = dict.fromkeys(tuple(labels[i] for i in sorted(f.columns)) for f in features)
    return [*names, *ids], list(crosses)
