"""The channel by which running instances get releases of the API."""
