"""The region annotation page: its server, its database, and the static files that a browser loads."""
