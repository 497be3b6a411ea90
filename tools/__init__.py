"""What is run by hand, or by those who look after the project; no part of the package."""
