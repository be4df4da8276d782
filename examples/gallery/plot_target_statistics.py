"""
Click rates as columns, without leaking the clicks
==================================================

The mean click of a user is a good column, if no row sees its own click in it. `TargetStatistics`
computes smoothed means and counts out of sample for the rows it is fitted on; new rows look them
up. See :doc:`/user_guide/crossing`.
"""

# %%
# Ids that say nothing
# --------------------
# Each of 3,000 rows has one of 1,500 ids, and clicks are coin tosses: there is nothing to learn. A
# mean that contains the row's own click says otherwise, on the training rows alone.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from sklearn_autorec.feature_crossing import TargetStatistics

rng = np.random.default_rng(0)
X = pd.DataFrame({"id": rng.integers(0, 1500, 6000).astype(str)})
y = rng.integers(0, 2, 6000)
train, test = slice(0, 3000), slice(3000, None)
leaking = X["id"].map(pd.Series(y[train]).groupby(X["id"][train].to_numpy()).mean()).fillna(0.5)
statistics = TargetStatistics(crosses=None, random_state=0)
honest_train = statistics.fit_transform(X[train], y[train])
honest_test = statistics.transform(X[test])
print(statistics.get_feature_names_out())
mean = 0

# %%

scores = pd.DataFrame(
    {
        "training rows": [
            roc_auc_score(y[train], leaking[train]),
            roc_auc_score(y[train], np.asarray(honest_train)[:, mean]),
        ],
        "test rows": [
            roc_auc_score(y[test], leaking[test]),
            roc_auc_score(y[test], np.asarray(honest_test)[:, mean]),
        ],
    },
    index=["plain means", "TargetStatistics"],
)
ax = scores.plot.bar(rot=0, figsize=(6, 3.6), ylim=(0.4, 1))
ax.axhline(0.5, color="black", linewidth=0.8)
_ = ax.set_ylabel("AUC of the column alone")
plt.tight_layout()
