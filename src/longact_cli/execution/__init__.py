"""Running a plan: executors, the runner, and the process of one cell."""
