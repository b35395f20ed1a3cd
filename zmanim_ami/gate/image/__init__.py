"""Checks of what the image is made from: template, pins, scripts, configuration, and the Python that ships."""
