"""The settings, one module for each subject: bounds, sources, and combinations that are refused."""
