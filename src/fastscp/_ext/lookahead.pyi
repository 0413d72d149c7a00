"""Places for PDUs whose headers have not been read yet.

Enters: the length of the payloads that are expected. Leaves: places behind those of what must come, and what was not as expected.
Never: believes what was read there, or keeps memory without bytes in it.
"""
