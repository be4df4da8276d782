"""Names of columns: which are those of fit, and which column a user means."""

import warnings
from numbers import Integral

from sklearn.utils.validation import validate_data

from ..utils._frames import table_names


def labels_of(names, n):
    """What n columns are called in text: their names, or "x0", "x1", ... where they have none."""
    return [f"x{i}" for i in range(n)] if names is None else [str(name) for name in names]


def check_columns(estimator, X, fitted):
    """Refuse a table whose columns are not those of fit, by number, by name and in order.

    scikit-learn compares names only if all are strings; this is the one place that compares the
    others.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : table
    fitted : list or None
        Names in fit.

    Raises
    ------
    ValueError
        If columns are missing, new, renamed or in another order.

    Warns
    -----
    UserWarning
        If names are there now and were not in fit, or the other way round, as scikit-learn has it.
    """
    validate_data(estimator, X, reset=False, skip_check_array=True)
    compare_names(estimator, table_names(X), fitted)


def compare_names(estimator, names, fitted):
    """As `check_columns`, once their number is known to be right and strings have been compared."""
    if names == fitted:
        return
    cls = type(estimator).__name__
    if names is None or fitted is None:
        given = fitted if names is None else names
        if all(isinstance(name, str) for name in given):
            return  # scikit-learn has warned
        places = list(range(len(given)))
        if given == places:
            return
        if names is not None and set(given) == set(places):
            raise ValueError(
                f"{cls} was fitted on columns without names, and X has them in the order {names}."
            )
        had, has = ("", "no ") if names is None else ("out", "")
        warnings.warn(
            f"X has {has}column names, but {cls} was fitted with{had} such ({given[:5]}); columns "
            f"are taken by position.",
            UserWarning,
            stacklevel=4,
        )
        return
    missing = [name for name in fitted if name not in names]
    new = [name for name in names if name not in fitted]
    if missing or new:
        raise ValueError(
            f"The columns of X should be those that {cls} was fitted on. Missing: {missing[:10]}; "
            f"new: {new[:10]}."
        )
    raise ValueError(
        f"The columns of X must be in the order that {cls} was fitted on, {fitted[:10]}; got "
        f"{names[:10]}."
    )


def find_column(name, names, labels):
    """Position of the column that a user names; None if there is none.

    A name is a name wherever the table has it. Integers are positions otherwise, unless integers
    are names there.

    Parameters
    ----------
    name : str, int, tuple or any other
    names : list or None
        Of the table.
    labels : list of str
        Their text, "x0", "x1", ... without names.
    """
    if names is not None and not isinstance(name, bool) and name in names:
        return names.index(name)
    if isinstance(name, str) and name in labels:
        return labels.index(name)
    if not isinstance(name, Integral) or isinstance(name, bool):
        return None
    integers = (
        names is not None
        and any(isinstance(n, Integral) for n in names)
        and names != list(range(len(names)))
    )
    return int(name) % len(labels) if not integers and -len(labels) <= name < len(labels) else None


def refuse_new_names(taken, new, what):
    """Refuse names of new columns that a table has already, or that two of them would have."""
    there = [name for name in new if name in taken]
    if there:
        raise ValueError(f"The table already has a column {there[0]!r}, the name of a {what}.")
    twice = [name for name in new if new.count(name) > 1]
    if twice:
        raise ValueError(
            f"More than one {what} would have the name {twice[0]!r}; rename the columns that make "
            f"it."
        )


def unused_names(wanted, taken=()):
    """New names as wanted where they are free, else with the first number from 2 that makes them
    so.
    """
    used, names = set(taken), []
    for name in wanted:
        free, k = name, 2
        while free in used:
            free, k = f"{name}_{k}", k + 1
        used.add(free)
        names.append(free)
    return names


def output_labels(estimator, labels, input_features):
    """Names of the columns of ``fit``, given in ``get_feature_names_out`` or not; refuses others
    than those.
    """
    if input_features is None:
        return labels
    given = [str(name) for name in input_features]
    if len(given) != len(labels):
        raise ValueError(
            f"input_features should have length equal to number of features ({len(labels)}), got "
            f"{len(given)}"
        )
    if given != list(getattr(estimator, "feature_names_in_", given)):
        raise ValueError("input_features is not equal to feature_names_in_")
    return given
