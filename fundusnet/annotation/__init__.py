"""The region annotation page: its server, its storage, and the static page that a browser loads."""
