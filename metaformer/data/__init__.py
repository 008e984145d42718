"""Labeled images: files in, batches out. Knows nothing of models."""
