"""Target statistics of columns and crosses."""
