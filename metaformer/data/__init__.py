"""Labelled pictures: files in, batches out. Knows nothing of models."""
