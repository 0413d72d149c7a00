"""The contracts of fastscp._ext a second time, in plain Python from the standard: the oracle of the property tests and the fuzzer.

Enters: whole bytes. Leaves: what the native modules must say about them. Never: shares code with them, or is fast.
"""
