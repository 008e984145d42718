"""Tasks: for each its data, model, loss, metrics, predictions and report. Builds no layers."""
