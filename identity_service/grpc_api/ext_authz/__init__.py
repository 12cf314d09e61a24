"""Envoy's external authorization (ext_authz): whether a gateway may let a request through, by its token.

CheckRequest → policy.py or descriptors.py (what the route or method requires) → presented.py (the token)
             → Verify → answers.py → CheckResponse
"""
