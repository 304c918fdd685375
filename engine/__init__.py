"""The engine: context audio in, continued audio out. Imports nothing else of ours, and no torch."""
