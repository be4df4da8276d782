"""Searches in the gate slot of a network."""
