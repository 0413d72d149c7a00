"""The function that follows an import job to its end."""
