"""What a study looks like: on a page, in a picture, in the terminal."""
