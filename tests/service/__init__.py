"""The listener, in this process and in one with few descriptors."""
