"""Measurements of Attacca: what the model plays. Run from the repository's root; not installed."""
