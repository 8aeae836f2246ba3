"""The operator as a process: options, logs, metrics, health, watches, and the order in which it starts and ends."""
