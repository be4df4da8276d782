"""Searches over subsets of columns, for any estimator."""
