"""Datasets: files in, batches out. It does not know models or tasks."""
