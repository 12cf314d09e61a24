"""The OAuth 2.0 endpoints: functions from requests to responses around the use cases.

The package knows no framework. No JSON and no form leaves it.
"""
