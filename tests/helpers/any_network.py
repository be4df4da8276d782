"""Searches around any network, for clicks and for ratings."""

import numpy as np

from sklearn_autorec import CTRClassifier, RatingRegressor


def fitted_by_both(mixed, network, search, **options):
    """A classifier and a regressor, each fitted, and asked for a row whose value is unseen."""
    X, y = mixed
    other = X[:50].assign(f1="never seen")
    for estimator in (CTRClassifier, RatingRegressor):
        model = estimator(
            network=network,
            search=search,
            embedding_dim=4,
            max_epochs=1,
            random_state=0,
            device="cpu",
            **options,
        ).fit(X, y * 1.0)
        assert np.isfinite(model.predict(other[:1])).all() and len(model.predict(other)) == 50
        yield model
