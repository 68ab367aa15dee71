"""Questions that are not "name the words": about a whole document, lists, counts, yes or no, two facts at once."""
