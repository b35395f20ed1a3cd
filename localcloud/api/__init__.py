"""The AWS API's front: parsing calls, errors, retries, listeners, and how moto is changed."""
