"""Two rows of a table that a model was fitted for, as far as its state tells."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PowerTransformer, TargetEncoder

from ..feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser, TargetStatistics
from ..preprocessing import FieldEncoder
from ._probe import probe_rows
from ._step_composed import parts_of


def rows_for(model):
    """Two rows that a model should know.

    Parameters
    ----------
    model : estimator
        Fitted.

    Returns
    -------
    DataFrame or ndarray, of two rows
    """
    if isinstance(model, AutoCross | GLIDER):
        return rows_for(model.crosser_)
    if isinstance(model, AEFE | FieldCrosser | TargetStatistics):
        read = probe_rows(model.encoder_)
        columns = {i: np.zeros(2) for i in range(model.n_features_in_)}
        columns |= {i: read.iloc[:, k] for k, i in enumerate(model._positions)}
        return pd.DataFrame(columns).set_axis(model._names or range(len(columns)), axis=1)
    parts = parts_of(model)
    if isinstance(model, Pipeline) and not parts:
        return np.zeros((2, 1))
    if parts and not isinstance(model, ColumnTransformer):
        return rows_for(parts[0])
    encoder = getattr(model, "encoder_", model)
    if isinstance(encoder, FrozenEstimator):
        encoder = encoder.estimator
    if isinstance(encoder, FieldEncoder):
        return probe_rows(encoder)
    n = getattr(model, "n_features_in_", 1)
    # Logarithms know only positive numbers.
    some = np.ones(2) if isinstance(model, PowerTransformer) else np.zeros(2)
    columns = dict.fromkeys(range(n), some)
    if isinstance(model, OneHotEncoder | OrdinalEncoder | TargetEncoder):
        columns = {i: values[[0, -1]] for i, values in enumerate(model.categories_)}
    if isinstance(model, SimpleImputer):
        columns = {i: [model.statistics_[i]] * 2 for i in range(n)}
    if isinstance(model, ColumnTransformer):
        for name, step, _ in model.transformers_:
            if isinstance(step, BaseEstimator):
                inner = rows_for(step)
                for k, i in enumerate(model._transformer_to_input_indices[name]):
                    columns[i] = (
                        np.asarray(inner)[:, k]
                        if isinstance(inner, np.ndarray)
                        else inner.iloc[:, k]
                    )
    table = pd.DataFrame(
        {i: pd.Series(column).reset_index(drop=True) for i, column in columns.items()}
    )
    if hasattr(model, "feature_names_in_"):
        table.columns = model.feature_names_in_
    elif getattr(model, "_names", None) is not None:
        table.columns = model._names
    return table
