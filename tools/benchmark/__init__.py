"""The benchmark behind ``tools/bench``: this server beside others and beside the limits of what it is built on."""
