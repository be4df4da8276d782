"""
A small table, and a large one like it
======================================

A new country has 400 impressions, an old one has 6,000. AutoFT takes the old country's weights
and finds out which of them hold in the new one. See :doc:`/user_guide/transfer`.
"""

# %%
# Two countries that differ in one column
# ---------------------------------------

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier
from sklearn_autorec.transfer import AutoFT

rng = np.random.default_rng(1)
FIELDS = ["user", "item", "hour", "device", "shop"]
effects = rng.normal(0, 1.2, (len(FIELDS), 12))


def country(n_rows, turned=()):
    """A table whose ``turned`` columns act the other way round."""
    ids = rng.integers(0, 12, (n_rows, len(FIELDS)))
    sign = np.where(np.isin(FIELDS, turned), -1, 1)
    logit = (sign * effects[np.arange(len(FIELDS)), ids]).sum(axis=1)
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-logit))).astype(int)
    return pd.DataFrame(ids, columns=FIELDS).astype(str), y


X_large, y_large = country(6000)
X_small, y_small = country(400, turned=["shop"])
X_test, y_test = country(4000, turned=["shop"])

# %%
# Alone, as it is, and with what was found
# ----------------------------------------

options = {"network": "fm", "lr": 0.01, "batch_size": 64, "random_state": 0}
source = CTRClassifier(max_epochs=5, **options).fit(X_large, y_large)
models = {
    "old country's model": source,
    "400 rows alone": CTRClassifier(max_epochs=10, **options).fit(X_small, y_small),
    "AutoFT": CTRClassifier(search=AutoFT(source), search_epochs=15, **options).fit(
        X_small, y_small
    ),
}
loss = {name: log_loss(y_test, model.predict_proba(X_test)) for name, model in models.items()}
chances = models["AutoFT"].architecture_["embedding"]["tune_probabilities"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
pd.Series(loss).plot.barh(ax=left, color=["0.7", "0.7", "tab:blue"])
left.set_xlabel("test log loss")
left.invert_yaxis()
pd.Series(chances, index=FIELDS).plot.barh(ax=right, xlim=(0, 1))
right.set_xlabel("probability that a column is tuned")
right.invert_yaxis()
