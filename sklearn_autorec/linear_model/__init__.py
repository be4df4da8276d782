"""The crossed linear model: one weight for each value, bin and combination of values."""
