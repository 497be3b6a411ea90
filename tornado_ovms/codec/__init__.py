"""Bytes of requests and answers to values and back; pure functions, for any thread."""
