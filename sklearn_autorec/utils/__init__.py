"""Helpers shared by the whole package; nothing here imports from the rest of it."""
