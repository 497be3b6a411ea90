"""HTTP: requests become calls of the data plane, replies become bytes on a connection."""
