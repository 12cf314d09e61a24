"""The service as one or several processes that listen."""
