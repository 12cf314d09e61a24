"""What the use cases need from outside that is neither a store nor a transport.

The clock, password hashing, the counters of failed attempts, and the keys of trusted issuers.
"""
