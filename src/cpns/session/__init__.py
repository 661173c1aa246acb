"""Secure sessions (SES-1, SES-2): which one protects a message, by source and destination."""
