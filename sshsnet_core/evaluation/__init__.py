"""Sections 4.4 and 5: metrics, results and tables. Reads results and volumes, never models."""
