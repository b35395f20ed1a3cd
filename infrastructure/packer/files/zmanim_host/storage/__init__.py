"""The data volume and what PostgreSQL and Redis must find on it."""
