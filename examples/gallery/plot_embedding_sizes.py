"""
How wide each embedding need be
===============================

Embedding tables are nearly all of a recommender's memory, and most values need few numbers. Two
searches choose sizes: AutoDim one per column, PEP element by element. See
:doc:`/user_guide/embedding`.
"""

# %%
# Two columns that matter, four that do not
# -----------------------------------------

import matplotlib.pyplot as plt
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim, EqualSize
from sklearn_autorec.inspection import EmbeddingSizeDisplay

X, y, truth = make_ctr(16_000, n_fields=6, cardinality=60, pairs=[(0, 1)], random_state=0)
X.columns = ["user", "item", "hour", "device", "shop", "banner"]
train, test = slice(0, 12_000), slice(12_000, None)

# %%
# The same network with full tables, and at a quarter of their bytes
# ------------------------------------------------------------------

searches = {
    "full tables": None,
    "equal width": EqualSize(budget=0.25),
    "PEP": PEP(budget=0.25),
    "AutoDim": AutoDim(budget=0.25),
}
models = {}
for name, search in searches.items():
    models[name] = CTRClassifier(
        network="fm", search=search, embedding_dim=8, lr=0.01, max_epochs=6, random_state=0
    ).fit(X[train], y[train])
    auc = roc_auc_score(y[test], models[name].predict_proba(X[test])[:, 1])
    print(f"{name:<12} {models[name].nbytes_['total'] / 1e3:6.1f} kB   AUC {auc:.3f}")

# %%
# Where the numbers went
# ----------------------

figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for ax, name in zip(axes, ("PEP", "AutoDim"), strict=True):
    EmbeddingSizeDisplay.from_estimator(models[name], ax=ax)
    ax.set_title(name, pad=34)
