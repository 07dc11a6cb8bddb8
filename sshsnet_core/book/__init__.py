"""The study as a static site: executed notebooks as linked pages that need no network and no server."""
