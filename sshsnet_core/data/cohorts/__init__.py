"""Section 4.1: where cases come from. One file per source."""
