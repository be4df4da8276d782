"""
A list of what was clicked before
=================================

A column of lists holds what each user clicked. DIN weighs the items of the list by the item at
hand, with one table for both; the mean of the list knows only what the user likes on the whole.
See :doc:`/user_guide/histories`.
"""

# %%
# Users with two tastes
# ---------------------
# A user has clicked items of two genres. A click follows if the item at hand is of one of them:
# the question is whether the list has *such* an item, not what it is like on average.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.networks import DIN
from sklearn_autorec.preprocessing import FieldEncoder

rng = np.random.default_rng(0)
n_rows, n_genres, n_items = 8000, 10, 80
genre = np.arange(n_items) % n_genres
tastes = np.argsort(rng.random((n_rows, n_genres)), axis=1)[:, :2]
history = [
    [f"i{rng.choice(np.flatnonzero(np.isin(genre, taste)))}" for _ in range(6)] for taste in tastes
]
item = rng.integers(0, n_items, n_rows)
likes = np.array([genre[i] in taste for i, taste in zip(item, tastes, strict=True)])
y = (rng.random(n_rows) < np.where(likes, 0.8, 0.1)).astype(int)
X = pd.DataFrame({"item": [f"i{i}" for i in item], "history": history})
train, test = slice(0, 6000), slice(6000, None)

# %%
# The same table, read in two ways
# --------------------------------

encoder = FieldEncoder(shared_vocabularies={"history": "item"})
auc = {}
for name, network in {"mean of the list (MLP)": "mlp", "DIN": DIN((32,))}.items():
    model = CTRClassifier(
        network=network, encoder=encoder, lr=0.005, batch_size=64, max_epochs=8, random_state=0
    ).fit(X[train], y[train])
    auc[name] = roc_auc_score(y[test], model.predict_proba(X[test])[:, 1])
auc["the truth"] = roc_auc_score(y[test], likes[test])
_, ax = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
pd.Series(auc).plot.barh(ax=ax, xlim=(0.5, 1), color=["0.7", "tab:blue", "0.3"])
ax.set_xlabel("test AUC")
ax.invert_yaxis()
