"""Implementations of ports that are neither stores nor transports.

They are the clock, password hashing, the counters of failed attempts, and the keys of trusted issuers.
"""
