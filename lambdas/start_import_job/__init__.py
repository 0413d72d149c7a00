"""The function that starts the import job of a batch."""
