"""
A search in a pipeline, and a grid over papers
==============================================

Papers are parameters. scikit-learn's own searches choose among them, in a pipeline, with the
plain network as a candidate. See :doc:`/user_guide/choosing`.
"""

# %%
# Candidates
# ----------

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.interaction import AutoFIS

X, y, truth = make_ctr(6000, n_fields=6, cardinality=10, pairs=[(0, 1), (2, 3)], random_state=0)
pipeline = Pipeline([("ctr", CTRClassifier(lr=0.01, max_epochs=4, random_state=0))])
grid = GridSearchCV(
    pipeline,
    {
        "ctr__network": ["fm", "deepfm"],
        "ctr__search": [None, AutoFIS(), PEP(target_sparsity=0.5), AutoDim()],
    },
    cv=2,
    scoring="roc_auc",
).fit(X, y)

# %%
# What each brought, and what it cost
# -----------------------------------

results = pd.DataFrame(grid.cv_results_)
results["search"] = results["param_ctr__search"].map(lambda s: type(s).__name__ if s else "none")
_, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for network, marker in {"fm": "o", "deepfm": "s"}.items():
    rows = results[results["param_ctr__network"] == network]
    ax.scatter(rows["mean_fit_time"], rows["mean_test_score"], marker=marker, label=network)
    for _, row in rows.iterrows():
        ax.annotate(
            row["search"],
            (row["mean_fit_time"], row["mean_test_score"]),
            xytext=(5, 4),
            textcoords="offset points",
        )
ax.set(xlabel="seconds of a fit", ylabel="AUC of held-out rows")
ax.margins(0.2)
_ = ax.legend()
