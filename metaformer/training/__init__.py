"""Training, whatever the task: optimizer, schedule, weight averaging, checkpoints, the loop."""
