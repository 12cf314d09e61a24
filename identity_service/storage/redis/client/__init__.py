"""Connections to Redis.

The pool, circuit breaker, Sentinel and Cluster, and the check of each server before it is used.
"""
