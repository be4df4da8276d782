"""
A network that was found
========================

AutoCTR evolves a graph of blocks behind the embeddings: perceptrons, factorization machines,
products. The display draws what came out. See :doc:`/user_guide/interaction`.
"""

# %%
# A short evolution
# -----------------

import matplotlib.pyplot as plt

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.inspection import ArchitectureDisplay
from sklearn_autorec.interaction import AutoCTR

X, y, truth = make_ctr(3000, n_fields=5, cardinality=6, pairs=2, n_numeric=2, random_state=0)
search = AutoCTR(widths=(16, 64), max_evaluations=30, population=10, tournament=4, epochs=2)
model = CTRClassifier(search=search, lr=0.02, batch_size=64, max_epochs=2, random_state=0)
model.fit(X, y)

# %%
# The graph
# ---------

_, ax = plt.subplots(figsize=(8, 5), layout="constrained")
_ = ArchitectureDisplay.from_estimator(model, ax=ax)
