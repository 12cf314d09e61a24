"""The keys of trusted issuers, from where each publishes them: a URL, a file, or the record itself."""
