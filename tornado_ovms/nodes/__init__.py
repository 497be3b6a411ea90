"""Custom nodes of pipelines: Python classes, libraries of the reference's C interface, and those that come with the server."""
