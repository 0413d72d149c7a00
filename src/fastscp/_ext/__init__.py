"""The native code: bytes, lengths and system calls.

Enters: bytes from peers. Leaves: instances and answers. Never: policy, configuration or logging.
"""
