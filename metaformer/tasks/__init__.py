"""Predictions and labels to losses, answers and figures. Never builds a layer."""
