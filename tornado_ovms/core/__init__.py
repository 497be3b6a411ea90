"""Values and decisions: no file, socket, thread or clock in this package."""
