"""The overload run behind ``tools/overload``: ten times as many requests as a server can answer, and what becomes of them."""
