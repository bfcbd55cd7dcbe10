"""Tables that people have: any id or none, any order, words, dates, holes."""
