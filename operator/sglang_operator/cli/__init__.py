"""`kubectl sglang …`: the commands. Each imports what it needs when it is called."""
