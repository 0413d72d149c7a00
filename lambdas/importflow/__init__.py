"""What the functions of the import workflow share: settings, rows, objects, turns, and the classes of their errors."""
