"""Several processes that serve as one: what they say to one another, through the supervisor between them."""
