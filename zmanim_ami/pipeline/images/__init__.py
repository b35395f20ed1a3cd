"""The life of images after their publication: which there are, who uses them, how two differ, and which may go."""
