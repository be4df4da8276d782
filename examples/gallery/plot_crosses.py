"""
Crosses for a linear model
==========================

A logistic regression knows no combinations of columns. AutoCross finds those it should have,
tests each on rows of its own, and adds them as columns: what comes out is small, fast and can be
read. See :doc:`/user_guide/crossing` and :doc:`/user_guide/linear`.
"""

# %%
# A linear model with and without crosses
# ---------------------------------------

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec import CrossedLinearClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import AutoCross

X, y, truth = make_ctr(
    10_000, n_fields=6, cardinality=10, pairs=[(0, 1)], triples=[(2, 3, 4)], random_state=0
)
X.columns = ["user", "item", "hour", "device", "shop", "banner"]
train, test = slice(0, 7_500), slice(7_500, None)
models = {
    "one-hot, no crosses": make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=500)
    ),
    "AutoCross + LogisticRegression": make_pipeline(
        AutoCross(output="onehot", random_state=0), LogisticRegression(max_iter=500)
    ),
    "CrossedLinearClassifier": CrossedLinearClassifier(random_state=0),
}
auc = {}
for name, model in models.items():
    model.fit(X[train], y[train])
    auc[name] = roc_auc_score(y[test], model.predict_proba(X[test])[:, 1])
models["AutoCross + LogisticRegression"][0].crosses_

# %%
# What they reach, beside the probabilities that the clicks were drawn with
# -------------------------------------------------------------------------

auc["the truth"] = roc_auc_score(y[test], truth.probabilities[test])
_, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
pd.Series(auc).plot.barh(ax=ax, xlim=(0.5, 0.9), color=["0.7", "tab:blue", "tab:blue", "0.3"])
ax.set_xlabel("test AUC")
ax.invert_yaxis()
