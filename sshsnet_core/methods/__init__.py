"""The rows of Table 1 as one table of switches, and what trains and applies them."""
