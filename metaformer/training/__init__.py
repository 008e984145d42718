"""Any task's model is made better here: optimiser, schedule, averaging, checkpoints, the loop."""
