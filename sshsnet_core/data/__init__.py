"""Sections 4.1 and 4.2: volumes, cohorts, preprocessing, the store and what is sampled from it."""
