"""The function that goes on with whatever was left behind."""
