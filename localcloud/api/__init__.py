"""The AWS API's front: what a call is, its answers and errors, an account of all calls, and how moto is changed."""
