"""Small measurements of what the study promises."""
