"""The stores, in this process and in processes that are killed."""
