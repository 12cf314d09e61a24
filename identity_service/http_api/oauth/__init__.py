"""The OAuth 2.0 endpoints: functions from requests to responses around the use cases.

The package uses no HTTP framework. Forms and JSON are used in this package only, not in the use cases.
"""
