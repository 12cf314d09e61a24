"""The messages of Envoy's ext_authz, generated from the protos beside this file.

They are parts of Envoy's own messages, with the same names and numbers, and so the same bytes. The complete
messages (`xds-protos`) cannot be installed beside the Envoy engine: both contain a package `envoy`.
"""
