"""Plans of nested searches."""
