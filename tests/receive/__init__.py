"""From a complete instance to its answer, in this process."""
