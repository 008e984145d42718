"""Any task's model is made better here: optimizer, schedule, averaging, checkpoints, the loop."""
