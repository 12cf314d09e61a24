"""The messages of Envoy's ext_authz, generated from the protos beside this file.

They are parts of Envoy's own, with the same names and numbers, so that their bytes are the same. The full
set, `xds-protos`, cannot be installed beside the Envoy engine: it replaces the package `envoy` of that.
"""
