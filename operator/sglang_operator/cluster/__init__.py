"""The operator's I/O: what a pass reads from the cluster, what it writes, and what drives the passes."""
