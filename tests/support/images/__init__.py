"""What the tests of images share: what is inside one, as its builder writes it down."""
