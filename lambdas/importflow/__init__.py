"""What the functions of the import workflow share: settings, rows, objects, turns, and the classes of their errors.

Enters: batch ids, documents, answers of AWS. Leaves: rows, objects, errors in our classes. Never: anything of one function alone.
"""
