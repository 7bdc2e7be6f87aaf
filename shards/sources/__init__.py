"""What a build is made of: sources from folders, lists and tars, with their labels."""
