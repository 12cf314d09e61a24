"""Reads the settings from their sources and checks them."""
