"""Where alerts of rules are kept and passed on: a folder of documents, and Alertmanager's API."""
