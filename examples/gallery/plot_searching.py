"""
Many candidates, few of them to the end
=======================================

Hyperband starts many candidates with few epochs and goes on with the best. It knows beforehand
what it will cost. See :doc:`/user_guide/searching`.
"""

# %%
# The race, before it runs
# ------------------------

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import loguniform

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.model_selection import HyperbandSearchCV

X, y, truth = make_ctr(4000, n_fields=5, cardinality=12, pairs=3, random_state=0)
search = HyperbandSearchCV(
    CTRClassifier(network="fm", embedding_dim=4, random_state=0),
    {"lr": loguniform(1e-4, 1e-1), "embedding_l2": loguniform(1e-6, 1e-1)},
    resource="max_epochs",
    max_resources=9,
    warm=True,
    cv=2,
    scoring="roc_auc",
    random_state=0,
)
pd.DataFrame(search.metadata()["brackets"])

# %%
# The race, afterwards
# --------------------
# A line is a candidate; it ends where the candidate was given up.

search.fit(X, y)
results = pd.DataFrame(search.cv_results_)
results["lr"] = results["param_lr"].astype(float)
_, ax = plt.subplots(figsize=(7, 4), layout="constrained")
colors = plt.get_cmap("viridis")
low, high = np.log(results["lr"].min()), np.log(results["lr"].max())
for _, rows in results.groupby(["lr", "param_embedding_l2"]):
    color = colors((np.log(rows["lr"].iloc[0]) - low) / (high - low))
    ax.plot(rows["n_resources"], rows["mean_test_score"], "o-", color=color)
ax.set(xlabel="epochs", ylabel="AUC of held-out rows", xscale="log")
ax.set_xticks([1, 3, 9], ["1", "3", "9"])
_ = ax.set_title("candidates of Hyperband; the lighter, the larger the learning rate")
