"""AEFE and its cascade of tests."""
