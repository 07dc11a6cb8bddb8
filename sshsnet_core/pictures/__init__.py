"""Overlays and figures. Reads results and volumes, never models."""
