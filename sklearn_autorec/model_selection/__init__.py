"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""
